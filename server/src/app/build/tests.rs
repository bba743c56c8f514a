//! What a start clears away.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::collections::BTreeMap;

use bytes::Bytes;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::units::Timestamp;
use fedmerge_common::update::UpdateHeader;
use fedmerge_proto::convert::transfer::chunk;

use super::*;
use crate::store::ledger::UploadRow;
use crate::testbed::{Bed, client, some_digest};

#[tokio::test]
async fn staged_bytes_that_the_ledger_does_not_know_are_removed_at_the_start() {
    let bed = Bed::new();
    let ledger = Ledger::open(&bed.directory.ledger()).await.unwrap();
    let limits = StagingLimits {
        bytes: ByteSize::from_mebibytes(1),
        uploads: 1,
    };
    let staging = Staging::open(bed.directory.staging(), limits).unwrap();
    let [known, unknown]: [UploadId; 2] = ["a", "b"].map(|id| id.parse().unwrap());
    for id in [&known, &unknown] {
        let mut writer = staging.writer(id, 4).await.unwrap();
        let half = chunk(0, Bytes::from_static(b"half"));
        writer.append(vec![Some(half)]).await.unwrap();
    }
    let row = UploadRow {
        id: known.clone(),
        client: client("ward-1"),
        header: UpdateHeader {
            round: RoundNumber::new(1),
            base: bed.base.digest,
            encoding: Encoding::F32,
            payload: some_digest(),
            payload_bytes: 4,
            num_examples: 1,
            metrics: BTreeMap::new(),
        },
        begun: Timestamp::new(0),
    };
    ledger.begin_upload(&row).await.unwrap();
    remove_unknown(&staging, &ledger).await.unwrap();
    assert_eq!(staging.uploads(), std::slice::from_ref(&known));
    assert!(staging.path(&known).exists());
    assert!(!staging.path(&unknown).exists());
}
