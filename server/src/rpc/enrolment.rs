//! Enrolment: a token and a signing request become a certificate, and a certificate becomes the next one.

use std::sync::Arc;

use fedmerge_common::renewal;
use fedmerge_common::units::{Millis, Timestamp};
use fedmerge_proto::convert::enrolment::{EnrolmentRequest, RenewalRequest};
use fedmerge_proto::status::{Refusal, RefusalReason};
use fedmerge_proto::v1;
use fedmerge_proto::v1::enrolment_server::Enrolment;
use tonic::{Request, Response, Status};

use super::Desk;
use crate::enrolment::authority::Authority;
use crate::enrolment::token::hash_secret;
use crate::store::ledger::{Admission, Renewal};

/// How often a client may renew in a certificate's life; one renews once and a half.
const RENEWALS_OF_A_LIFE: u64 = 20;

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

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let request = RenewalRequest::try_from(request.into_inner())?;
        Ok(Response::new(self.renewed(request).await?))
    }
}

impl Service {
    async fn admit(&self, request: EnrolmentRequest) -> Result<v1::EnrolResponse, Refusal> {
        let desk = &self.0;
        let now = self.agreed_time(request.client_time)?;
        let key = Authority::request_key(&request.certificate_request)?;
        let admission = Admission {
            token: request.token,
            secret_hash: hash_secret(&request.secret),
            client: request.client,
            key,
            now,
            until: now + desk.enrolment.certificate_life,
            max_clients: desk.max_clients,
        };
        let client = desk.ledger.admit(&admission).await??;
        let certificate = desk.authority().admit(
            (&client.id, &client.labels),
            &request.certificate_request,
            now,
            desk.enrolment.certificate_life,
        )?;
        tracing::info!(client = %admission.client, token = %admission.token, "client enrolled");
        Ok(v1::EnrolResponse {
            client_id: admission.client.to_string(),
            federation: desk.name.to_string(),
            certificate: certificate.to_vec().into(),
            authority: desk.authority().certificate().to_vec().into(),
            server_time_ms: now.get(),
            change: desk.authority().change(),
        })
    }

    async fn renewed(&self, request: RenewalRequest) -> Result<v1::RenewResponse, Refusal> {
        let desk = &self.0;
        let now = self.agreed_time(request.client_time)?;
        let (client, wish) = (request.client, &request.certificate_request);
        let words = renewal::statement(&desk.name, &client, request.client_time, wish);
        let verified = request.proof.verify(&words);
        verified.map_err(|error| Refusal::new(RefusalReason::NotPermitted, error))?;
        let renewal = Renewal {
            key: request.proof.key_sha256(),
            next_key: Authority::request_key(wish)?,
            now,
            until: now + desk.enrolment.certificate_life,
            absence: desk.enrolment.absence,
            spacing: Millis::new(desk.enrolment.certificate_life.get() / RENEWALS_OF_A_LIFE),
            client,
        };
        let client = desk.ledger.renew(&renewal).await??;
        let owner = (&client.id, &client.labels);
        let life = desk.enrolment.certificate_life;
        let certificate = desk.authority().admit(owner, wish, now, life)?;
        tracing::info!(client = %renewal.client, "certificate renewed");
        Ok(v1::RenewResponse {
            certificate: certificate.to_vec().into(),
            authority: desk.authority().certificate().to_vec().into(),
            server_time_ms: now.get(),
            change: desk.authority().change(),
        })
    }

    /// The time, where the client's clock says much the same.
    fn agreed_time(&self, client_time: Timestamp) -> Result<Timestamp, Refusal> {
        let (now, limit) = (self.0.clock.now(), self.0.enrolment.clock_skew);
        let skew = now.distance(client_time);
        if skew <= limit {
            return Ok(now);
        }
        let words = format!(
            "this machine's clock says {client_time}, the server's says {now}: they differ by {}, the limit is {limit}",
            skew.approximate()
        );
        Err(Refusal::new(RefusalReason::ClockSkew, words))
    }
}
