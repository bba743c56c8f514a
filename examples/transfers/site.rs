//! One client: it attends, takes the base, and gives an update that was ready before. All by the code of `fedmerge client run`, apart from
//! the agent that would train in between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fedmerge_client::agent::Answer;
use fedmerge_client::cache::Cache;
use fedmerge_client::enrolment::{self, Wish, identity};
use fedmerge_client::link::{Greeting, Link};
use fedmerge_client::settings::{ClientDirectory, Settings};
use fedmerge_client::task::{Belief, Notice, Task};
use fedmerge_client::transfer::{download, upload};
use fedmerge_common::clock::Clock;
use fedmerge_common::digest::Digest;
use fedmerge_common::failure::{ExitCode, Failure};
use fedmerge_common::output::{Output, OutputFormat};
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::units::Millis;
use fedmerge_common::update::UpdateHeader;
use fedmerge_proto::limits::INSTANCE_BYTES;
use fedmerge_proto::v1;
use fedmerge_proto::v1::round_client::RoundClient;
use tokio::sync::Barrier;
use tokio::time::Instant;

/// How long a client waits for what may pass.
const PATIENCE: Millis = Millis::from_secs(60);
const QUIET: Output = Output {
    format: OutputFormat::Text,
    quiet: true,
    verbosity: 0,
};

/// An update that every client sends.
#[derive(Clone, Debug)]
pub(crate) struct Payload {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its digest.
    pub(crate) digest: Digest,
    /// Its size.
    pub(crate) bytes: u64,
}

/// When a client did what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// The base was asked for.
    pub(crate) invited: Instant,
    /// It is in the cache.
    pub(crate) downloaded: Instant,
    /// The update was announced.
    pub(crate) announced: Instant,
    /// Every byte of it is durable.
    pub(crate) sent: Instant,
}

/// An enrolled client.
#[derive(Debug)]
pub(crate) struct Site {
    directory: ClientDirectory,
    link: Link,
}

fn failed(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::from_error(ExitCode::Unavailable, error)
}

impl Site {
    /// Enrols a client of that number at the server at `address`, with its files in `root`.
    ///
    /// # Errors
    /// When it is not let in.
    pub(crate) async fn enrol(
        root: &Path,
        address: &str,
        join: &str,
        number: u16,
    ) -> Result<Self, Failure> {
        let name = format!("client-{number}");
        let directory = ClientDirectory::new(root.join(&name));
        let wish = Wish {
            server: address.parse().map_err(|error| failed(&error))?,
            join: join.parse().map_err(|error| failed(&error))?,
            client: name.parse().map_err(|error| failed(&error))?,
            wait: PATIENCE,
        };
        let settings = Box::pin(enrolment::enrol(&directory, &wish, &QUIET)).await?;
        let tls = identity::load(&directory, &settings, &Clock::system())?;
        let link = Link::new(wish.server, tls, Greeting::Hello, QUIET);
        Ok(Self { directory, link })
    }

    /// What this client's connections are made with.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub(crate) fn tls(&self) -> Result<rustls::ClientConfig, Failure> {
        let settings = Settings::read(&self.directory)?;
        identity::load(&self.directory, &settings, &Clock::system())
    }

    /// Takes part in a round. All that share the `gate` begin to download together, and to upload together.
    ///
    /// # Errors
    /// When the server refuses anything, or the update does not count.
    pub(crate) async fn take_part(
        self,
        payload: Payload,
        gate: Arc<Barrier>,
    ) -> Result<Times, Failure> {
        let connection = self
            .link
            .connection()
            .await
            .map_err(|error| failed(&error))?;
        let request = v1::AttendRequest {
            instance: rand::random::<[u8; INSTANCE_BYTES]>().to_vec().into(),
        };
        let attending = RoundClient::new(connection.channel).attend(request).await;
        let mut notices = attending.map_err(|error| failed(&error))?.into_inner();
        let task = invitation(&mut notices).await?;
        let cache = Cache::open(self.directory.cache()).map_err(|error| failed(&error))?;
        gate.wait().await;
        let invited = Instant::now();
        let fetched = download::fetch(&self.link, &cache, &task.base).await;
        let downloaded = Instant::now();
        // Many clients on one machine: what is not needed any more makes room.
        std::fs::remove_file(fetched.map_err(|error| failed(&error))?)
            .map_err(|error| failed(&error))?;
        gate.wait().await;
        let announced = Instant::now();
        let is_sent = OnceLock::new();
        let sent = || {
            // Of several attempts the first that sent everything counts.
            let _again = is_sent.set(Instant::now());
        };
        let header = header(&task, &payload);
        let answer = upload::submit(&self.link, &header, &payload.path, sent).await;
        match answer.map_err(|error| failed(&error))? {
            Answer::Accepted => Ok(Times {
                invited,
                downloaded,
                announced,
                sent: is_sent.get().copied().unwrap_or_else(Instant::now),
            }),
            Answer::Rejected(rejection) => Err(Failure::new(
                ExitCode::BadData,
                format!("an update does not count: {}", rejection.detail),
            )),
        }
    }
}

/// Whatever the server says of its base.
const BELIEF: Belief = Belief {
    step_back: None,
    doubt: None,
};

async fn invitation(notices: &mut tonic::Streaming<v1::Notice>) -> Result<Task, Failure> {
    loop {
        let notice = notices.message().await.map_err(|error| failed(&error))?;
        let notice = notice.ok_or_else(|| {
            Failure::new(ExitCode::Unavailable, "the server ended before it invited")
        })?;
        let notice = Notice::read(notice, |_, _| BELIEF).map_err(|error| failed(&error))?;
        if let Notice::Invited(task) = notice {
            return Ok(task);
        }
    }
}

fn header(task: &Task, payload: &Payload) -> UpdateHeader {
    UpdateHeader {
        round: task.round,
        base: task.base.digest,
        encoding: Encoding::F32,
        payload: payload.digest,
        payload_bytes: payload.bytes,
        num_examples: 1,
        metrics: BTreeMap::new(),
    }
}
