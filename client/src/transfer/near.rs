//! A base that is here and has much in common with one that is wanted: what is the same is copied, and need not travel.
//!
//! The server says which bytes differ. Nothing here is believed: the digest of the whole decides, and a whole that was put
//! together wrongly is downloaded instead.

use std::ops::Range;
use std::path::{Path, PathBuf};

use fedmerge_common::digest::Digest;
use fedmerge_common::update::ModelRef;
use fedmerge_proto::limits::MAX_MESSAGE_BYTES;
use fedmerge_proto::v1;
use fedmerge_proto::v1::transfer_client::TransferClient;

use crate::cache::Cache;
use crate::link::Link;
use crate::transfer::download::blocking;

/// A smaller base is downloaded whole: to ask takes as long.
const WORTHWHILE_BYTES: u64 = 4 * 1024;

/// What is here of a wanted base.
#[derive(Debug, Default)]
pub(super) struct Near {
    /// The base that is here, and its file.
    base: Option<(Digest, PathBuf)>,
    /// Bytes that are the same at the same place; in order and apart from one another.
    same: Vec<Range<u64>>,
}

/// The next bytes of a base, and where they come from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// From the file that is here, up to this byte.
    Here(u64),
    /// From the server, up to this byte.
    There(u64),
}

impl Near {
    /// Asks which bytes are the same; nothing is, where nobody knows.
    pub(super) async fn find(link: &Link, cache: &Cache, model: &ModelRef) -> Self {
        if model.size_bytes < WORTHWHILE_BYTES {
            return Self::default();
        }
        let (here, wanted) = (cache.clone(), model.digest);
        for (have, path) in blocking(move || here.others(&wanted)).await {
            let is_long_enough = path
                .metadata()
                .is_ok_and(|metadata| metadata.len() >= model.size_bytes);
            if !is_long_enough {
                continue;
            }
            if let Some(changed) = changed(link, have, model).await {
                let same = the_others(&changed, model.size_bytes);
                return Self {
                    base: Some((have, path)),
                    same,
                };
            }
        }
        Self::default()
    }

    /// Which base is here.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.base.as_ref().map(|(digest, _)| *digest)
    }

    /// The file of the base that is here.
    pub(super) fn path(&self) -> Option<&Path> {
        self.base.as_ref().map(|(_, path)| path.as_path())
    }

    /// What comes after so many bytes of a base of `whole` bytes.
    pub(super) fn next(&self, written: u64, whole: u64) -> Next {
        let following = self.same.iter().find(|range| range.end > written);
        match following {
            Some(range) if range.start <= written => Next::Here(range.end),
            Some(range) => Next::There(range.start),
            None => Next::There(whole),
        }
    }
}

/// The bytes that differ, as the server says; none of it, where it does not know both or does not answer.
async fn changed(link: &Link, have: Digest, want: &ModelRef) -> Option<Vec<Range<u64>>> {
    let request = v1::CompareModelsRequest {
        have: Some(have.into()),
        want: Some(want.digest.into()),
    };
    let call = |channel| async move {
        TransferClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .compare_models(request)
            .await
    };
    match link.attempt(call).await {
        Ok(answer) => {
            let changed = answer.changed.into_iter();
            Some(changed.map(|range| range.start..range.end).collect())
        }
        Err(trouble) => {
            tracing::debug!(reason = %trouble, "models not compared: the whole is downloaded");
            None
        }
    }
}

/// What is between the ranges, up to the end; nothing where they are not in order.
fn the_others(ranges: &[Range<u64>], whole: u64) -> Vec<Range<u64>> {
    let mut others = Vec::new();
    let mut done = 0;
    for range in ranges {
        if range.start < done || range.end < range.start || range.end > whole {
            return Vec::new();
        }
        if done < range.start {
            others.push(done..range.start);
        }
        done = range.end;
    }
    if done < whole {
        others.push(done..whole);
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    fn others(ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let ranges: Vec<_> = ranges.iter().map(|(start, end)| *start..*end).collect();
        let others = the_others(&ranges, 40).into_iter();
        others.map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn what_is_not_changed_is_the_same() {
        assert_eq!(others(&[(0, 10), (20, 30)]), [(10, 20), (30, 40)]);
        assert_eq!(others(&[(10, 40)]), [(0, 10)]);
        assert_eq!(others(&[(0, 40)]), []);
    }

    #[test]
    fn ranges_that_are_none_make_nothing_the_same() {
        for ranges in [
            &[(20, 30), (0, 10)][..],
            &[(0, 41)],
            &[(0, 10), (5, 20)],
            &[(9, 3)],
        ] {
            assert_eq!(others(ranges), []);
        }
    }

    #[test]
    fn bytes_come_from_here_where_they_are_the_same_wherever_a_download_goes_on() {
        let near = Near {
            base: None,
            same: the_others(&[0..10, 20..30], 40),
        };
        let expected = [
            (0, Next::There(10)),
            (9, Next::There(10)),
            (10, Next::Here(20)),
            (15, Next::Here(20)),
            (20, Next::There(30)),
            (30, Next::Here(40)),
        ];
        for (written, next) in expected {
            assert_eq!(near.next(written, 40), next, "{written}");
        }
        assert_eq!(Near::default().next(7, 40), Next::There(40));
    }
}
