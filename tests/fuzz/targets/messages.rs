//! Every message of `fedmerge.v1` that a peer may send, decoded and turned into what it means.
//!
//! The first byte chooses the message. What is understood survives the way back.
#![no_main]

use fedmerge_common::ids::RoundNumber;
use fedmerge_common::packing::Unpacker;
use fedmerge_common::reason::Decline;
use fedmerge_common::rollback::Rollback;
use fedmerge_common::update::UpdateHeader;
use fedmerge_proto::convert::admin::TokenRequest;
use fedmerge_proto::convert::enrolment::{EnrolmentRequest, RenewalRequest};
use fedmerge_proto::convert::evaluation::{EvaluationReport, EvaluationRequest};
use fedmerge_proto::convert::invitation::Invitation;
use fedmerge_proto::convert::round::{ProgressReport, instance};
use fedmerge_proto::convert::transfer::{update_outcome, upload_id, verified_chunk};
use fedmerge_proto::v1;
use libfuzzer_sys::fuzz_target;
use prost::Message;

/// Decodes, converts, and expects the same again from what it was turned into.
fn understood<M, T>(bytes: &[u8])
where
    M: Message + Default + Clone + From<T>,
    T: TryFrom<M> + Clone + PartialEq,
{
    let Ok(message) = M::decode(bytes) else {
        return;
    };
    if let Ok(value) = T::try_from(message) {
        let again = M::decode(&M::from(value.clone()).encode_to_vec()[..]);
        let again = again.ok().and_then(|message| T::try_from(message).ok());
        // A number that is none is not equal to itself.
        let is_reflexive = value == value.clone();
        assert!(!is_reflexive || again == Some(value));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    match which % 12 {
        0 => understood::<v1::UpdateHeader, UpdateHeader>(bytes),
        1 => understood::<v1::Invitation, Invitation>(bytes),
        2 => understood::<v1::Evaluation, EvaluationRequest>(bytes),
        3 => understood::<v1::ReportEvaluationRequest, EvaluationReport>(bytes),
        4 => understood::<v1::ReportProgressRequest, ProgressReport>(bytes),
        5 => understood::<v1::DeclineRequest, (RoundNumber, Decline)>(bytes),
        6 => understood::<v1::Rollback, Rollback>(bytes),
        7 => understood::<v1::CreateTokenRequest, TokenRequest>(bytes),
        8 => understood::<v1::EnrolRequest, EnrolmentRequest>(bytes),
        9 => {
            if let Ok(message) = v1::UploadChunksRequest::decode(bytes) {
                let _id = upload_id(&message.upload_id);
                if let Ok(chunk) = verified_chunk(message.chunk, &mut Unpacker::default()) {
                    assert!(chunk.end() >= chunk.offset);
                }
            }
            if let Ok(message) = v1::AttendRequest::decode(bytes) {
                let _instance = instance(&message);
            }
        }
        10 => {
            if let Ok(message) = v1::CommitUploadResponse::decode(bytes) {
                let _outcome = update_outcome(message);
            }
        }
        _ => {
            understood::<v1::RenewRequest, RenewalRequest>(bytes);
            let request = v1::RenewRequest::decode(bytes);
            let request = request
                .ok()
                .and_then(|message| RenewalRequest::try_from(message).ok());
            if let Some(request) = request {
                // Nobody's key, and nobody's signature.
                assert!(request.proof.verify(b"words").is_err());
            }
        }
    }
});
