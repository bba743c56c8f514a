//! Compiles the wire's descriptions in pure Rust: no protoc is needed.
//!
//! Besides the code it leaves the descriptor set, which gRPC reflection serves.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 4] = [
    "fedmerge/v1/enrolment.proto",
    "fedmerge/v1/round.proto",
    "fedmerge/v1/transfer.proto",
    "fedmerge/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(
        out.join("fedmerge_descriptor.bin"),
        descriptors.encode_to_vec(),
    )?;
    // Payload fields are slices of the receive buffer; maps are ordered, so that equal messages are equal bytes.
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
