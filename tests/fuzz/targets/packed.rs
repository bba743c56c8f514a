//! Packed chunks: any bytes are unpacked or refused, and what is packed is unpacked to the same bytes.
//!
//! The first byte says whether an older version is there, the next two how long the chunk is said to be.
#![no_main]

use std::fs::File;
use std::io::Write;
use std::sync::OnceLock;

use fedmerge_common::packing::{Packer, Unpacker};
use libfuzzer_sys::fuzz_target;

/// The older version: words that resemble one another.
fn older() -> File {
    static FILE: OnceLock<File> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let path =
            std::env::temp_dir().join(format!("fedmerge-fuzz-packed-{}", std::process::id()));
        let mut options = File::options();
        let mut file = options
            .create(true)
            .read(true)
            .write(true)
            .truncate(true)
            .open(&path)
            .expect("a file");
        std::fs::remove_file(&path).expect("it goes with this process");
        let words = (0..1_u32 << 14).flat_map(|word| (0x3f80_0000 + word).to_le_bytes());
        file.write_all(&words.collect::<Vec<u8>>())
            .expect("a full disk");
        file
    });
    file.try_clone().expect("a file")
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[which, low, high], bytes)) = bytes.split_first_chunk() else {
        return;
    };
    let is_beside = which & 1 != 0;
    let mut unpacker = if is_beside {
        Unpacker::beside(older())
    } else {
        Unpacker::default()
    };
    let said = usize::from(u16::from_le_bytes([low, high]));
    if let Ok(run) = unpacker.unpack(0, bytes, said) {
        assert_eq!(run.len(), said);
    }
    // The same memory goes on with what is right, after whatever was wrong.
    let mut packer = Packer::beside(is_beside.then(older)).expect("memory");
    let longer = bytes.repeat(1 + 2_048 / bytes.len().max(1));
    for (offset, run) in [(0, bytes), (4, &longer)] {
        if let Some(packed) = packer.pack(offset, run) {
            assert!(packed.len() < run.len());
            assert_eq!(
                unpacker.unpack(offset, &packed, run.len()).as_deref(),
                Ok(run)
            );
        }
    }
});
