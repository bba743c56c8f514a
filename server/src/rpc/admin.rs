//! Watching and steering, for administrators.

use std::sync::Arc;

use fedmerge_common::ids::{ClientId, FederationName, ModelVersion, RoundNumber};
use fedmerge_common::reason::one_line;
use fedmerge_common::units::Timestamp;
use fedmerge_coordinator::{RoundOutcome, View};
use fedmerge_proto::convert::admin::TokenRequest;
use fedmerge_proto::convert::parsed;
use fedmerge_proto::status::{Refusal, RefusalReason};
use fedmerge_proto::v1;
use fedmerge_proto::v1::admin_server::Admin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Desk;
use crate::closed_round::ClosedClient;
use crate::driver::RollbackWish;
use crate::enrolment::eviction::Eviction;
use crate::enrolment::token;
use crate::store::ledger::{Approval, RoundStory, Rounds};

/// Most of the awaited clients whom a status names.
const MAX_NAMED: usize = 16;

/// The service `fedmerge.v1.Admin`.
#[derive(Debug)]
pub(super) struct Service(pub(super) Arc<Desk>);

#[tonic::async_trait]
impl Admin for Service {
    type WatchStatusStream = ReceiverStream<Result<v1::WatchStatusResponse, Status>>;

    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let status = Some(self.status(&self.0.federation.now()));
        Ok(Response::new(v1::GetStatusResponse { status }))
    }

    async fn watch_status(
        &self,
        _request: Request<v1::WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let (statuses, stream) = mpsc::channel(1);
        let service = Self(Arc::clone(&self.0));
        self.0
            .tasks
            .spawn(async move { service.watch(statuses).await });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let request = TokenRequest::try_from(request.into_inner())?;
        let created = token::create(&request, self.0.authority().pin(), self.0.clock.now());
        let (token, join) =
            created.map_err(|error| Refusal::new(RefusalReason::Internal, error))?;
        let added = self.0.ledger.add_token(&token).await;
        added.map_err(Refusal::from)?;
        Ok(Response::new(v1::CreateTokenResponse {
            join_string: join.to_string(),
        }))
    }

    async fn list_clients(
        &self,
        _request: Request<v1::ListClientsRequest>,
    ) -> Result<Response<v1::ListClientsResponse>, Status> {
        let enrolled = self.0.ledger.clients().await.map_err(Refusal::from)?;
        let view = self.0.federation.now();
        let clients = enrolled.into_iter().map(|client| v1::Client {
            attending: view.attending.contains(&client.id),
            client_id: client.id.to_string(),
            enrolled_ms: client.enrolled.get(),
            labels: client.labels,
            state: client.state.to_string(),
            certificate_until_ms: client.until.map_or(0, Timestamp::get),
            renewals: client.renewals,
            ephemeral: client.is_ephemeral,
        });
        Ok(Response::new(v1::ListClientsResponse {
            clients: clients.collect(),
        }))
    }

    async fn approve_client(
        &self,
        request: Request<v1::ApproveClientRequest>,
    ) -> Result<Response<v1::ApproveClientResponse>, Status> {
        let client: ClientId = parsed("client_id", &request.into_inner().client_id)?;
        let approval = self
            .0
            .ledger
            .approve(&client, self.0.clock.now())
            .await
            .map_err(Refusal::from)?;
        let already = match approval {
            Approval::Approved => false,
            Approval::AlreadyAdmitted => true,
            Approval::Unknown => {
                let words = format!("there is no client `{client}`");
                return Err(Refusal::new(RefusalReason::ClientUnknown, words).into());
            }
        };
        tracing::info!(%client, "client approved");
        Ok(Response::new(v1::ApproveClientResponse { already }))
    }

    async fn evict_client(
        &self,
        request: Request<v1::EvictClientRequest>,
    ) -> Result<Response<v1::EvictClientResponse>, Status> {
        let request = request.into_inner();
        let client: ClientId = parsed("client_id", &request.client_id)?;
        let eviction = Eviction {
            directory: &self.0.uploads.directory,
            ledger: &self.0.ledger,
            connections: &self.0.connections,
            federation: &self.0.federation,
        };
        let reason = one_line(&request.reason);
        eviction.evict(&client, &reason, self.0.clock.now()).await?;
        Ok(Response::new(v1::EvictClientResponse {}))
    }

    async fn roll_back_model(
        &self,
        request: Request<v1::RollBackModelRequest>,
    ) -> Result<Response<v1::RollBackModelResponse>, Status> {
        let request = request.into_inner();
        let version = ModelVersion::new(request.version);
        let stored = self.0.ledger.model(version).await.map_err(Refusal::from)?;
        let unknown = |words: String| Refusal::new(RefusalReason::ModelUnknown, words);
        let stored = stored.ok_or_else(|| unknown(format!("there is no model {version}")))?;
        if stored.removed.is_some() {
            return Err(unknown(format!("model {version} is not kept any more")).into());
        }
        let wish = RollbackWish {
            to: stored.model,
            reason: one_line(&request.reason),
            above: ModelVersion::new(request.above),
        };
        let outcome = self.0.federation.roll_back(wish).await?;
        let model = outcome.map_err(|detail| Refusal::new(RefusalReason::NotNow, detail))?;
        Ok(Response::new(v1::RollBackModelResponse {
            model: Some(model.into()),
        }))
    }

    async fn list_rounds(
        &self,
        request: Request<v1::ListRoundsRequest>,
    ) -> Result<Response<v1::ListRoundsResponse>, Status> {
        let first = RoundNumber::new(request.into_inner().first_round);
        let rounds = self
            .0
            .ledger
            .rounds(Rounds::From(first))
            .await
            .map_err(Refusal::from)?;
        Ok(Response::new(v1::ListRoundsResponse {
            rounds: rounds.iter().map(round).collect(),
        }))
    }
}

impl Service {
    fn status(&self, view: &View) -> v1::Status {
        v1::Status {
            refusals: self.0.refusals.by_name(),
            ..status(&self.0.name, view)
        }
    }

    /// Sends the newest status until nobody listens or the server stops; a slow watcher misses what was between.
    async fn watch(&self, statuses: mpsc::Sender<Result<v1::WatchStatusResponse, Status>>) {
        let mut view = self.0.federation.watch();
        loop {
            let status = self.status(&view.borrow_and_update());
            let message = v1::WatchStatusResponse {
                status: Some(status),
            };
            let sending = statuses.send(Ok(message));
            let Some(Ok(())) = self.0.stop.run_until_cancelled(sending).await else {
                return;
            };
            tokio::select! {
                changed = view.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = statuses.closed() => return,
                () = self.0.stop.cancelled() => return,
            }
        }
    }
}

/// How things stand in a federation, in the words of the wire.
pub(crate) fn status(federation: &FederationName, view: &View) -> v1::Status {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let ended = view.ended.map(|ended| ended.to_string());
    let named = view.awaited.iter().take(MAX_NAMED);
    v1::Status {
        federation: federation.to_string(),
        round: view.round.map_or(0, RoundNumber::get),
        phase: view.phase.to_owned(),
        waiting_for: view.waiting_for.clone(),
        base: Some(view.base.into()),
        attending: count(view.attending.len()),
        invited: count(view.tally.invited()),
        accepted: count(view.tally.accepted),
        rounds_ended: view.rounds_ended,
        ended: ended.unwrap_or_default(),
        awaited: named.map(ToString::to_string).collect(),
        awaited_count: count(view.awaited.len()),
        until_ms: view.until.map_or(0, Timestamp::get),
        ..v1::Status::default()
    }
}

fn round(story: &RoundStory) -> v1::RoundRecord {
    let summary = &story.summary;
    let (outcome, reason) = match &summary.outcome {
        RoundOutcome::Published(_) => ("published", String::new()),
        RoundOutcome::Abandoned(reason) => ("abandoned", reason.to_string()),
    };
    v1::RoundRecord {
        round: summary.round.get(),
        outcome: outcome.to_owned(),
        reason,
        model: summary.outcome.published().map(|model| (*model).into()),
        clients: ClosedClient::of(summary).map(part).collect(),
        merge_ms: story.merge_ms.unwrap_or(0),
        wall_ms: summary.wall().get(),
    }
}

fn part(client: ClosedClient) -> v1::RoundClient {
    v1::RoundClient {
        client_id: client.client.to_string(),
        outcome: client.outcome.to_owned(),
        reason: client.reason,
        num_examples: client.num_examples,
        evaluation: client.evaluation.map(|evaluation| v1::ClientEvaluation {
            outcome: evaluation.outcome.to_owned(),
            gain: evaluation.gain,
            num_examples: evaluation.num_examples,
            reason: evaluation.reason,
        }),
    }
}
