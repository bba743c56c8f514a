//! The server of these tests: invites to one round, takes one update, may ask for one evaluation, and remembers what it saw.

use std::sync::{Arc, Mutex};

use fedmerge_common::clock::Clock;
use fedmerge_common::digest::Digest;
use fedmerge_common::packing::Unpacker;
use fedmerge_common::reason::Rejection;
use fedmerge_proto::convert::transfer::{chunk, verified_chunk};
use fedmerge_proto::status::{Refusal, RefusalReason};
use fedmerge_proto::v1;
use fedmerge_proto::v1::commit_upload_response::Outcome;
use fedmerge_proto::v1::round_server::{Round, RoundServer};
use fedmerge_proto::v1::transfer_server::{Transfer, TransferServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::testbed::Authority;

/// What the server saw of a client.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) begun: Vec<v1::UpdateHeader>,
    pub(super) payload: Vec<u8>,
    pub(super) declined: Vec<v1::DeclineRequest>,
    pub(super) evaluations: Vec<v1::ReportEvaluationRequest>,
    pub(super) attended: usize,
}

/// Invites each attending client to one round, and ends when it is answered.
pub(super) struct Theatre {
    pub(super) base: Vec<u8>,
    /// What the client is asked to evaluate when its update is in; without it the federation ends then.
    pub(super) candidate: Option<Vec<u8>>,
    pub(super) encodings: Vec<i32>,
    pub(super) rejection: Option<Rejection>,
    pub(super) refusal: Option<RefusalReason>,
    /// So many attendances are taken before the refusal.
    pub(super) attendances: usize,
    pub(super) seen: Mutex<Seen>,
    /// Attendances that break off at once.
    pub(super) breaks: usize,
    /// Whether the federation has ended before anyone attends.
    pub(super) is_over: bool,
    /// Who endorses the base.
    pub(super) authority: Arc<Authority>,
    /// Where the attending client's notices go.
    stage: Mutex<Option<mpsc::Sender<Result<v1::Notice, Status>>>>,
}

impl Theatre {
    pub(super) fn new(base: Vec<u8>) -> Self {
        Self {
            base,
            candidate: None,
            encodings: vec![99, v1::Encoding::Bf16.into()],
            rejection: None,
            refusal: None,
            attendances: 0,
            breaks: 0,
            is_over: false,
            authority: Arc::new(Authority::new()),
            seen: Mutex::default(),
            stage: Mutex::default(),
        }
    }

    fn notice(&self, state: v1::notice::State) {
        let stage = self.stage.lock().unwrap();
        stage
            .as_ref()
            .unwrap()
            .try_send(Ok(v1::Notice { state: Some(state) }))
            .unwrap();
    }

    /// Breaks the attendance off.
    pub(super) fn break_off(&self) {
        *self.stage.lock().unwrap() = None;
    }

    /// Asks for the evaluation, if there is to be one.
    fn evaluate(&self) {
        let Some(candidate) = &self.candidate else {
            return self.end();
        };
        self.notice(v1::notice::State::Evaluation(v1::Evaluation {
            round: 3,
            base: Some(model(2, &self.base)),
            candidate: Some(model(3, candidate)),
            metric: "accuracy".to_owned(),
            deadline_ms: 0,
        }));
    }

    fn end(&self) {
        let ended = v1::FederationEnded {
            reason: "all rounds are done".to_owned(),
            last: None,
        };
        self.notice(v1::notice::State::Ended(ended));
    }
}

fn model(version: u64, bytes: &[u8]) -> v1::Model {
    v1::Model {
        version,
        digest: Some(Digest::of(bytes).into()),
        size_bytes: bytes.len() as u64,
    }
}

/// The services of a theatre.
pub(super) fn routes(theatre: &Arc<Theatre>) -> Routes {
    Routes::new(RoundServer::new(Actor(Arc::clone(theatre))))
        .add_service(TransferServer::new(Actor(Arc::clone(theatre))))
}

struct Actor(Arc<Theatre>);

type Answers<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl Round for Actor {
    type AttendStream = Answers<v1::Notice>;

    async fn hello(
        &self,
        _request: Request<v1::HelloRequest>,
    ) -> Result<Response<v1::HelloResponse>, Status> {
        Ok(Response::new(v1::HelloResponse::default()))
    }

    async fn attend(
        &self,
        _request: Request<v1::AttendRequest>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let attended = {
            let mut seen = self.0.seen.lock().unwrap();
            seen.attended += 1;
            seen.attended
        };
        if let Some(reason) = self.0.refusal
            && attended > self.0.attendances
        {
            return Err(Refusal::new(reason, "because").into());
        }
        let (sender, receiver) = mpsc::channel(8);
        if attended <= self.0.breaks {
            return Ok(Response::new(ReceiverStream::new(receiver)));
        }
        *self.0.stage.lock().unwrap() = Some(sender);
        if self.0.is_over {
            self.0.end();
            return Ok(Response::new(ReceiverStream::new(receiver)));
        }
        let base = model(2, &self.0.base);
        let endorsed = base.clone().try_into().unwrap();
        let now = Clock::system().now();
        let endorsement = self.0.authority.endorse(&endorsed, now);
        self.0.notice(v1::notice::State::Invitation(v1::Invitation {
            round: 3,
            base: Some(base),
            deadline_ms: 0,
            encodings: self.0.encodings.clone(),
            max_update_bytes: 1 << 20,
            density_ppm: 0,
            rollback: None,
            noise: None,
            endorsement: Some(endorsement.into()),
        }));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn report_progress(
        &self,
        _request: Request<v1::ReportProgressRequest>,
    ) -> Result<Response<v1::ReportProgressResponse>, Status> {
        Ok(Response::new(v1::ReportProgressResponse {}))
    }

    async fn decline(
        &self,
        request: Request<v1::DeclineRequest>,
    ) -> Result<Response<v1::DeclineResponse>, Status> {
        self.0
            .seen
            .lock()
            .unwrap()
            .declined
            .push(request.into_inner());
        self.0.end();
        Ok(Response::new(v1::DeclineResponse {}))
    }

    async fn report_evaluation(
        &self,
        request: Request<v1::ReportEvaluationRequest>,
    ) -> Result<Response<v1::ReportEvaluationResponse>, Status> {
        self.0
            .seen
            .lock()
            .unwrap()
            .evaluations
            .push(request.into_inner());
        self.0.end();
        Ok(Response::new(v1::ReportEvaluationResponse {}))
    }
}

#[tonic::async_trait]
impl Transfer for Actor {
    type DownloadModelStream = Answers<v1::DownloadModelResponse>;
    type UploadChunksStream = Answers<v1::UploadChunksResponse>;

    async fn download_model(
        &self,
        request: Request<v1::DownloadModelRequest>,
    ) -> Result<Response<Self::DownloadModelStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let wanted = request.into_inner().digest;
        let candidate = self.0.candidate.as_ref();
        let candidate = candidate.filter(|bytes| wanted == Some(Digest::of(bytes).into()));
        let chunk = chunk(0, candidate.unwrap_or(&self.0.base).clone().into());
        sender
            .try_send(Ok(v1::DownloadModelResponse { chunk: Some(chunk) }))
            .unwrap();
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn compare_models(
        &self,
        _request: Request<v1::CompareModelsRequest>,
    ) -> Result<Response<v1::CompareModelsResponse>, Status> {
        Err(Refusal::new(RefusalReason::ModelUnknown, "unknown").into())
    }

    async fn begin_upload(
        &self,
        request: Request<v1::BeginUploadRequest>,
    ) -> Result<Response<v1::BeginUploadResponse>, Status> {
        self.0
            .seen
            .lock()
            .unwrap()
            .begun
            .push(request.into_inner().header.unwrap());
        Ok(Response::new(v1::BeginUploadResponse {
            upload_id: "u".to_owned(),
            ..Default::default()
        }))
    }

    async fn upload_chunks(
        &self,
        request: Request<Streaming<v1::UploadChunksRequest>>,
    ) -> Result<Response<Self::UploadChunksStream>, Status> {
        let message = request.into_inner().message().await?.unwrap();
        let chunk = verified_chunk(message.chunk, &mut Unpacker::default()).unwrap();
        self.0.seen.lock().unwrap().payload = chunk.data.to_vec();
        let (sender, receiver) = mpsc::channel(1);
        sender
            .try_send(Ok(v1::UploadChunksResponse {
                durable_bytes: chunk.data.len() as u64,
            }))
            .unwrap();
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn commit_upload(
        &self,
        _request: Request<v1::CommitUploadRequest>,
    ) -> Result<Response<v1::CommitUploadResponse>, Status> {
        self.0.evaluate();
        let outcome = match &self.0.rejection {
            Some(rejection) => Outcome::Rejected(rejection.clone().into()),
            None => Outcome::Accepted(v1::Accepted {}),
        };
        Ok(Response::new(v1::CommitUploadResponse {
            outcome: Some(outcome),
        }))
    }
}
