//! Enrolment: a token and a signing request become a certificate.

use std::sync::Arc;

use fedmerge_proto::convert::enrolment::EnrolmentRequest;
use fedmerge_proto::status::{Refusal, RefusalReason};
use fedmerge_proto::v1;
use fedmerge_proto::v1::enrolment_server::Enrolment;
use tonic::{Request, Response, Status};

use super::Desk;
use crate::enrolment::authority::Authority;
use crate::enrolment::token::hash_secret;
use crate::store::ledger::Admission;

/// The service `fedmerge.v1.Enrolment`.
#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl Enrolment for Service {
    async fn enrol(
        &self,
        request: Request<v1::EnrolRequest>,
    ) -> Result<Response<v1::EnrolResponse>, Status> {
        let request = EnrolmentRequest::try_from(request.into_inner())?;
        Ok(Response::new(self.admit(request).await?))
    }
}

impl Service {
    async fn admit(&self, request: EnrolmentRequest) -> Result<v1::EnrolResponse, Refusal> {
        let desk = &self.0;
        let now = desk.clock.now();
        let skew = now.distance(request.client_time);
        if skew > desk.clock_skew {
            let words = format!(
                "this machine's clock says {}, the server's says {now}: they differ by {}, the limit is {}",
                request.client_time,
                skew.approximate(),
                desk.clock_skew
            );
            return Err(Refusal::new(RefusalReason::ClockSkew, words));
        }
        let key = Authority::request_key(&request.certificate_request)?;
        let admission = Admission {
            token: request.token,
            secret_hash: hash_secret(&request.secret),
            client: request.client,
            key,
            now,
            max_clients: desk.max_clients,
        };
        desk.ledger.admit(&admission).await??;
        let certificate = desk.authority.admit(
            &admission.client,
            &request.certificate_request,
            now,
            desk.certificate_life,
        )?;
        tracing::info!(client = %admission.client, token = %admission.token, "client enrolled");
        Ok(v1::EnrolResponse {
            client_id: admission.client.to_string(),
            federation: desk.name.to_string(),
            certificate: certificate.to_vec().into(),
            authority: desk.authority.certificate().to_vec().into(),
            server_time_ms: now.get(),
        })
    }
}
