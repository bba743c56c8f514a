//! The straight line, the announcement: each attending client's stream of notices, and what clients report.

use std::sync::Arc;

use fedmerge_common::identity::Labels;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::Decline;
use fedmerge_coordinator::Event;
use fedmerge_proto::convert::nested;
use fedmerge_proto::convert::round::{ProgressReport, instance};
use fedmerge_proto::status::{Refusal, RefusalReason};
use fedmerge_proto::v1;
use fedmerge_proto::v1::notice::State;
use fedmerge_proto::v1::round_server::Round;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Desk;
use super::access::{Caller, caller, client};
use crate::driver::{Seat, evaluation_event};
use crate::listener::Peer;

/// The service `fedmerge.v1.Round`.
#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl Round for Service {
    type AttendStream = ReceiverStream<Result<v1::Notice, Status>>;

    async fn hello(
        &self,
        request: Request<v1::HelloRequest>,
    ) -> Result<Response<v1::HelloResponse>, Status> {
        let client_id = match caller(&request)? {
            Caller::Client(client) => client.to_string(),
            Caller::Admin(name) | Caller::Observer(name) => name.to_string(),
            Caller::Anonymous => String::new(),
        };
        let authority = self.0.authority();
        Ok(Response::new(v1::HelloResponse {
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            server_time_ms: self.0.clock.now().get(),
            federation: self.0.name.to_string(),
            client_id,
            authority: authority.certificate().to_vec().into(),
            change: authority.change(),
            base: Some(self.0.federation.now().base.into()),
        }))
    }

    async fn attend(
        &self,
        request: Request<v1::AttendRequest>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let client = client(&request)?;
        self.refuse_unselected(&request)?;
        let instance = instance(request.get_ref())?;
        let seat = self.0.federation.attend(client.clone(), instance).await?;
        let session = seat.session;
        let (notices, stream) = mpsc::channel(1);
        let desk = Arc::clone(&self.0);
        self.0.tasks.spawn(async move {
            tell(seat, notices, &desk).await;
            desk.federation.leave(client, session).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn report_progress(
        &self,
        request: Request<v1::ReportProgressRequest>,
    ) -> Result<Response<v1::ReportProgressResponse>, Status> {
        let client = client(&request)?;
        let report = ProgressReport::try_from(request.into_inner())?;
        self.0.federation.note_progress(&client, report.round);
        Ok(Response::new(v1::ReportProgressResponse {}))
    }

    async fn decline(
        &self,
        request: Request<v1::DeclineRequest>,
    ) -> Result<Response<v1::DeclineResponse>, Status> {
        let client = client(&request)?;
        let (round, decline) = <(RoundNumber, Decline)>::try_from(request.into_inner())?;
        let event = Event::ClientDeclined {
            client,
            round,
            decline,
        };
        self.0.federation.report(event).await?;
        Ok(Response::new(v1::DeclineResponse {}))
    }

    async fn report_evaluation(
        &self,
        request: Request<v1::ReportEvaluationRequest>,
    ) -> Result<Response<v1::ReportEvaluationResponse>, Status> {
        let client = client(&request)?;
        let report = request.into_inner().try_into()?;
        let event = evaluation_event(client, report);
        self.0.federation.report(event).await?;
        Ok(Response::new(v1::ReportEvaluationResponse {}))
    }
}

impl Service {
    /// Refuses a client that the plan is not for.
    fn refuse_unselected<T>(&self, request: &Request<T>) -> Result<(), Refusal> {
        let peer = request.extensions().get::<Peer>();
        let certificate = peer.and_then(|peer| peer.certificate.as_ref());
        let none = Labels::new();
        let labels = certificate.map_or(&none, |certificate| &certificate.labels);
        let selected = self.0.selector.check(labels);
        selected.map_err(|error| Refusal::new(RefusalReason::NotSelected, error))
    }
}

/// Sends the newest notice, again and again, until the client is gone, its place is taken anew, or the server stops.
async fn tell(mut seat: Seat, notices: mpsc::Sender<Result<v1::Notice, Status>>, desk: &Desk) {
    loop {
        let notice = seat.notices.borrow_and_update().clone();
        let notice = endorsed(notice, desk);
        let sending = notices.send(notice.map_err(|refusal| desk.refusals.counted(refusal.into())));
        // A client that does not read must not hold up the drain.
        let Some(Ok(())) = desk.stop.run_until_cancelled(sending).await else {
            return;
        };
        tokio::select! {
            changed = seat.notices.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = notices.closed() => return,
            () = desk.stop.cancelled() => {
                let words = "the server is about to stop";
                let refusal = Refusal::new(RefusalReason::ShuttingDown, words);
                let _gone = notices.try_send(Err(desk.refusals.counted(refusal.into())));
                return;
            }
        }
    }
}

/// A notice with the authority's word that the base it names is the federation's now.
fn endorsed(mut notice: v1::Notice, desk: &Desk) -> Result<v1::Notice, Refusal> {
    if let Some(State::Invitation(invitation)) = &mut notice.state {
        let base = nested("base", invitation.base.clone())?;
        let endorsement = desk.authority().endorse(&base, desk.clock.now())?;
        invitation.endorsement = Some(endorsement.into());
    }
    Ok(notice)
}
