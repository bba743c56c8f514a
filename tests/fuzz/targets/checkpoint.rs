//! A safetensors file with anything in it: opened, and every tensor read where it says that it is.
#![no_main]

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use fedmerge_common::checkpoint::Checkpoint;
use libfuzzer_sys::fuzz_target;

/// Most bytes of a tensor that are read.
const READ: usize = 64 * 1024;

/// A file of this process, in memory where that can be had.
fn file() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    directory.join(format!("fedmerge-fuzz-{}.safetensors", std::process::id()))
}

thread_local! {
    static FILE: PathBuf = file();
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

fuzz_target!(|bytes: &[u8]| {
    FILE.with(|path| {
        fs::write(path, bytes).expect("the file can be written");
        let Ok(checkpoint) = Checkpoint::open(path) else {
            return;
        };
        let mut end = 0;
        for (position, tensor) in checkpoint.schema().tensors().iter().enumerate() {
            let extent = checkpoint.extent(position);
            assert!(extent.end <= bytes.len() as u64, "a tensor past the end");
            end = end.max(extent.end);
            let length = usize::try_from(tensor.byte_len()).unwrap_or(READ).min(READ);
            BUFFER.with_borrow_mut(|buffer| {
                let read = checkpoint.read_bytes(position, 0, &mut buffer[..length]);
                read.expect("a tensor that was promised can be read");
            });
            if tensor.is_mergeable() && tensor.elements() <= READ / 4 {
                let mut values = vec![0.0; tensor.elements()];
                let read = checkpoint.read_f32(position, 0, &mut values);
                read.expect("its values can be read");
            }
        }
        assert!(
            end == 0 || end == bytes.len() as u64,
            "bytes that are nobody's"
        );
    });
});
