//! Texts and certificates from other machines and from disks: join strings, identifiers, certificates, proofs, records of rounds.
//!
//! The first byte chooses the reader. What is read is written as it was.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use fedmerge_common::digest::Digest;
use fedmerge_common::identity::{PeerCertificate, public_key_sha256};
use fedmerge_common::ids::{ClientId, FederationName, UploadId};
use fedmerge_common::join::JoinString;
use fedmerge_common::proof;
use fedmerge_common::rollback::Rollback;
use fedmerge_common::units::{ByteSize, Millis};
use fedmerge_coordinator::{Record, RoundSummary};
use libfuzzer_sys::fuzz_target;

/// One value, one spelling.
fn spelt<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

/// What is said of it can be read again.
fn told<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(value.to_string().parse::<T>().is_ok());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    if which % 10 == 0 {
        let _certificate = PeerCertificate::parse(bytes);
        let _key = public_key_sha256(bytes);
        // A proof is JSON around Base64; a certificate of its own bytes signs nothing.
        assert!(proof::verify(bytes, bytes).is_err());
        return;
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match which % 10 {
        1 => spelt::<JoinString>(text),
        2 => spelt::<Digest>(text),
        3 => spelt::<ClientId>(text),
        4 => spelt::<FederationName>(text),
        5 => spelt::<UploadId>(text),
        6 => told::<ByteSize>(text),
        7 => told::<Millis>(text),
        8 => {
            if let Ok(record) = serde_json::from_str::<Record>(text) {
                let again = serde_json::to_string(&record).expect("a record is JSON");
                assert_eq!(serde_json::from_str::<Record>(&again).ok(), Some(record));
            }
        }
        _ => {
            let _story = serde_json::from_str::<RoundSummary>(text);
            let _rollback = serde_json::from_str::<Rollback>(text);
        }
    }
});
