//! A client without manners: it speaks the wire by hand, with a real client's certificate or with none.
//!
//! Every answer is either the message or the server's typed [`Refusal`]; a status that carries no reason of ours fails the
//! test, because a client could not tell its user what to do.

use bytes::Bytes;
use fedmerge_client::enrolment::identity;
use fedmerge_client::link::trouble::Trouble;
use fedmerge_client::link::{Greeting, Link};
use fedmerge_client::settings::{ClientDirectory, Settings};
use fedmerge_common::clock::Clock;
use fedmerge_common::digest::Digest;
use fedmerge_common::join::JoinString;
use fedmerge_common::output::Output;
use fedmerge_common::tls;
use fedmerge_proto::convert::transfer::chunk;
use fedmerge_proto::limits::INSTANCE_BYTES;
use fedmerge_proto::status::Refusal;
use fedmerge_proto::v1;
use fedmerge_proto::v1::admin_client::AdminClient;
use fedmerge_proto::v1::commit_upload_response::Outcome;
use fedmerge_proto::v1::round_client::RoundClient;
use fedmerge_proto::v1::transfer_client::TransferClient;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::federation::Federation;
use super::process::LIMIT;

/// An answer, or the server's reason for none.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// A connection whose calls a story makes one by one.
#[derive(Debug)]
pub(crate) struct RawClient {
    runtime: Runtime,
    channel: Channel,
    notices: Option<Streaming<v1::Notice>>,
}

/// A stream of chunks that stays open.
#[derive(Debug)]
pub(crate) struct HeldStream {
    _chunks: mpsc::Sender<v1::UploadChunksRequest>,
    _acknowledged: Streaming<v1::UploadChunksResponse>,
}

/// TLS with the certificate of an enrolled client.
pub(crate) fn tls_of(federation: &Federation, name: &str) -> rustls::ClientConfig {
    let directory = ClientDirectory::new(federation.path(name));
    let settings = Settings::read(&directory).unwrap();
    identity::load(&directory, &settings, &Clock::system()).unwrap()
}

impl RawClient {
    /// With the certificate of an enrolled client.
    pub(crate) fn with_certificate_of(federation: &Federation, name: &str) -> Self {
        Self::connect(federation, tls_of(federation, name))
    }

    /// As a machine that has a join string and is not enrolled.
    pub(crate) fn without_certificate(federation: &Federation, join: &str) -> Self {
        let join: JoinString = join.parse().unwrap();
        let tls = tls::client_config_pinned(join.authority_pin, Clock::system()).unwrap();
        Self::connect(federation, tls)
    }

    fn connect(federation: &Federation, tls: rustls::ClientConfig) -> Self {
        Self::try_connect(federation, tls).unwrap()
    }

    /// Connects with the certificate of an enrolled client and makes one call. False where the connection was lost on the way: a handshake
    /// that lasts may have to make room among strangers of its address, and a client tries again.
    pub(crate) fn reaches(federation: &Federation, name: &str) -> bool {
        let Ok(connected) = Self::try_connect(federation, tls_of(federation, name)) else {
            return false;
        };
        let mut client = RoundClient::new(connected.channel.clone());
        let call = client.report_progress(v1::ReportProgressRequest {
            round: 1,
            progress: 0.5,
            loss: None,
        });
        let answer = connected
            .runtime
            .block_on(async { timeout(LIMIT, call).await });
        let answer = answer.expect("no answer in time");
        answer.map_or_else(|status| Refusal::from_status(&status).is_some(), |_| true)
    }

    fn try_connect(federation: &Federation, tls: rustls::ClientConfig) -> Result<Self, Trouble> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let address = federation.address.parse().unwrap();
        let link = Link::new(address, tls, Greeting::None, Output::default());
        let channel = runtime.block_on(link.connection())?.channel;
        Ok(Self {
            runtime,
            channel,
            notices: None,
        })
    }

    /// Attends until it is invited; the place is kept as long as this client lives.
    pub(crate) fn attend(&mut self) -> v1::Invitation {
        let mut client = RoundClient::new(self.channel.clone());
        let request = v1::AttendRequest {
            instance: Bytes::from_static(&[7; INSTANCE_BYTES]),
        };
        let mut notices = self.answer(client.attend(request)).unwrap();
        let invited = async {
            loop {
                let notice = notices.message().await.unwrap().expect("the stream ended");
                if let Some(v1::notice::State::Invitation(invitation)) = notice.state {
                    return invitation;
                }
            }
        };
        let invitation = self
            .runtime
            .block_on(async { timeout(LIMIT, invited).await });
        self.notices = Some(notices);
        invitation.expect("no invitation came")
    }

    /// Announces an update.
    pub(crate) fn begin_upload(&self, header: v1::UpdateHeader) -> Answer<v1::BeginUploadResponse> {
        let mut client = TransferClient::new(self.channel.clone());
        let request = v1::BeginUploadRequest {
            header: Some(header),
        };
        self.answer(client.begin_upload(request))
    }

    /// Sends one chunk and answers how many bytes are durable then.
    pub(crate) fn send(&self, upload: &str, chunk: v1::Chunk) -> Answer<u64> {
        let mut client = TransferClient::new(self.channel.clone());
        let messages = tokio_stream::iter([v1::UploadChunksRequest {
            upload_id: upload.to_owned(),
            chunk: Some(chunk),
        }]);
        self.answer(async move {
            let mut acknowledged = client.upload_chunks(messages).await?.into_inner();
            let answer = acknowledged.message().await?;
            Ok(Response::new(
                answer.expect("no acknowledgement").durable_bytes,
            ))
        })
    }

    /// Sends one chunk, waits until it is durable, and keeps the stream open as long as the answer lives: to the server, a connection
    /// that fell silent looks the same.
    pub(crate) fn hold(&self, upload: &str, chunk: v1::Chunk) -> Answer<HeldStream> {
        let mut client = TransferClient::new(self.channel.clone());
        let (chunks, outgoing) = mpsc::channel(1);
        let message = v1::UploadChunksRequest {
            upload_id: upload.to_owned(),
            chunk: Some(chunk),
        };
        chunks.try_send(message).unwrap();
        self.answer(async move {
            let stream = client.upload_chunks(ReceiverStream::new(outgoing));
            let mut acknowledged = stream.await?.into_inner();
            acknowledged.message().await?;
            Ok(Response::new(HeldStream {
                _chunks: chunks,
                _acknowledged: acknowledged,
            }))
        })
    }

    /// Opens so many streams of chunks on which nothing comes; they stay open as long as the answer lives. Those over the server's limit
    /// wait for their turn.
    pub(crate) fn hold_silent(&self, count: usize) -> Vec<mpsc::Sender<v1::UploadChunksRequest>> {
        (0..count)
            .map(|_| {
                let (chunks, outgoing) = mpsc::channel(1);
                let mut client = TransferClient::new(self.channel.clone());
                self.runtime.spawn(async move {
                    let opened = client.upload_chunks(ReceiverStream::new(outgoing)).await;
                    let mut answers = opened?.into_inner();
                    answers.message().await
                });
                chunks
            })
            .collect()
    }

    /// Ends an upload.
    pub(crate) fn commit(&self, upload: &str) -> Answer<Outcome> {
        let mut client = TransferClient::new(self.channel.clone());
        let request = v1::CommitUploadRequest {
            upload_id: upload.to_owned(),
        };
        let answer = self.answer(client.commit_upload(request))?;
        Ok(answer.outcome.expect("neither accepted nor rejected"))
    }

    /// Announces an update, sends what is wanted of it, and commits it.
    pub(crate) fn submit(
        &self,
        header: v1::UpdateHeader,
        payload: &'static [u8],
    ) -> Answer<Outcome> {
        let payload_bytes = header.payload_bytes;
        let begun = self.begin_upload(header)?;
        if begun.durable_bytes < payload_bytes {
            self.send(&begun.upload_id, chunk(0, Bytes::from_static(payload)))?;
        }
        self.commit(&begun.upload_id)
    }

    /// Says how far the work on a round is.
    pub(crate) fn report_progress(&self, round: u64) -> Answer<v1::ReportProgressResponse> {
        let mut client = RoundClient::new(self.channel.clone());
        self.answer(client.report_progress(v1::ReportProgressRequest {
            round,
            progress: 0.5,
            loss: None,
        }))
    }

    /// Says of a round's candidate that it is as bad as can be.
    pub(crate) fn condemn(&self, round: u64) -> Answer<v1::ReportEvaluationResponse> {
        let mut client = RoundClient::new(self.channel.clone());
        let comparison = v1::Comparison {
            before: 1e300,
            after: f64::NAN,
            num_examples: u64::MAX,
        };
        self.answer(client.report_evaluation(v1::ReportEvaluationRequest {
            round,
            outcome: Some(v1::report_evaluation_request::Outcome::Comparison(
                comparison,
            )),
        }))
    }

    /// Asks for a model.
    pub(crate) fn download(&self, digest: &Digest) -> Answer<Bytes> {
        let mut client = TransferClient::new(self.channel.clone());
        let request = v1::DownloadModelRequest {
            digest: Some((*digest).into()),
            ..Default::default()
        };
        self.answer(async move {
            let mut parts = client.download_model(request).await?.into_inner();
            let part = parts.message().await?.expect("an empty model");
            Ok(Response::new(
                part.chunk.expect("a part without a chunk").data,
            ))
        })
    }

    /// Asks how many bytes of a model differ from those of another one.
    pub(crate) fn changed_bytes(&self, have: &Digest, want: &Digest) -> Answer<u64> {
        let mut client = TransferClient::new(self.channel.clone());
        let request = v1::CompareModelsRequest {
            have: Some((*have).into()),
            want: Some((*want).into()),
        };
        let answer = self.answer(client.compare_models(request))?;
        let changed = answer.changed.iter();
        Ok(changed.map(|range| range.end - range.start).sum())
    }

    /// Asks for what only administrators may see.
    pub(crate) fn admin_status(&self) -> Answer<v1::GetStatusResponse> {
        let mut client = AdminClient::new(self.channel.clone());
        self.answer(client.get_status(v1::GetStatusRequest {}))
    }

    /// Asks for what only administrators may make.
    pub(crate) fn admin_token(&self) -> Answer<v1::CreateTokenResponse> {
        let mut client = AdminClient::new(self.channel.clone());
        self.answer(client.create_token(v1::CreateTokenRequest {
            uses: 1,
            ttl_ms: 60_000,
            ..Default::default()
        }))
    }

    fn answer<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Answer<T> {
        let answer = self.runtime.block_on(async { timeout(LIMIT, call).await });
        let answer = answer.expect("no answer in time").map(Response::into_inner);
        answer.map_err(|status| reason_of(&status))
    }
}

fn reason_of(status: &Status) -> Refusal {
    Refusal::from_status(status).unwrap_or_else(|| panic!("no reason of ours: {status:?}"))
}

/// The header of an update whose payload is `payload`, for a task.
pub(crate) fn header(task: &v1::Invitation, payload: &[u8]) -> v1::UpdateHeader {
    v1::UpdateHeader {
        round: task.round,
        base: task.base.clone().and_then(|base| base.digest),
        encoding: v1::Encoding::F32.into(),
        payload: Some(Digest::of(payload).into()),
        payload_bytes: payload.len() as u64,
        num_examples: 1,
        ..Default::default()
    }
}
