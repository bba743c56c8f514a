//! A server's directory with tiny models, and a running driver on it, for tests: what a merge gives is known by hand.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use fedmerge_common::checkpoint::{Checkpoint, CheckpointWriter, HeaderLimits};
use fedmerge_common::clock::Clock;
use fedmerge_common::digest::Digest;
use fedmerge_common::dtype::Dtype;
use fedmerge_common::failure::Failure;
use fedmerge_common::ids::{ClientId, ModelVersion, RoundNumber};
use fedmerge_common::output::Output;
use fedmerge_common::schema::{Schema, TensorSpec};
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::task_vector::encoding::Density;
use fedmerge_common::tls::SERVER_NAME;
use fedmerge_common::units::{ByteSize, Millis};
use fedmerge_common::update::ModelRef;
use fedmerge_coordinator::{
    Cohort, Coordinator, Counted, LatePolicy, Mode, RoundPlan, UpdateRef, View,
};
use fedmerge_merge::{Method, Recipe, Resources};
use fedmerge_proto::v1;
use fedmerge_proto::v1::notice::State;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::compute::Compute;
use crate::console::Console;
use crate::directory::ServerDirectory;
use crate::driver::{Driver, Equipment, Federation, MergeTerms, Quarantine, Seat, Stay, Workshop};
use crate::enrolment::authority::Authority;
use crate::files;
use crate::listener::Connections;
use crate::merging::MergeJob;
use crate::merging::manifest::{FORMAT, Manifest};
use crate::notice::Offer;
use crate::plan::{ByRound, Freeze, Weight};
use crate::store::ledger::Ledger;
use crate::store::staging::{Staging, StagingLimits};
use crate::uploads::{Turns, Uploads, Yardstick};

/// Name, element type and values of a tensor of one dimension.
pub(crate) type Tensor<'a> = (&'a str, Dtype, &'a [f32]);

pub(crate) const SEED: u64 = 7;

/// Writes a checkpoint; tensors that hold no numbers to merge stay zero.
pub(crate) fn write(path: &Path, tensors: &[Tensor<'_>]) -> ModelRef {
    let specs = tensors
        .iter()
        .map(|(name, dtype, values)| TensorSpec::new(*name, *dtype, vec![values.len()]).unwrap());
    let schema = Schema::new(specs.collect()).unwrap();
    let writer = CheckpointWriter::create(path, &schema, &BTreeMap::new()).unwrap();
    for (name, dtype, values) in tensors {
        let position = schema.index_of(name).unwrap();
        if dtype.is_mergeable() {
            writer.write_f32(position, 0, values).unwrap();
        } else {
            let bytes = vec![0xA5; values.len() * dtype.bytes()];
            writer.write_bytes(position, 0, &bytes).unwrap();
        }
    }
    let written = writer.finish().unwrap();
    ModelRef {
        version: ModelVersion::new(0),
        digest: written.digest,
        size_bytes: written.bytes,
    }
}

/// The bytes of a tensor.
pub(crate) fn bytes_of(path: &Path, tensor: &str) -> Vec<u8> {
    let checkpoint = Checkpoint::open(path).unwrap();
    let position = checkpoint.schema().index_of(tensor).unwrap();
    let length = checkpoint.schema().tensors()[position].byte_len();
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    checkpoint.read_bytes(position, 0, &mut bytes).unwrap();
    bytes
}

/// The values of a tensor.
pub(crate) fn values_of(path: &Path, tensor: &str) -> Vec<f32> {
    let checkpoint = Checkpoint::open(path).unwrap();
    let position = checkpoint.schema().index_of(tensor).unwrap();
    let mut values = vec![0.0; checkpoint.schema().tensors()[position].elements()];
    checkpoint.read_f32(position, 0, &mut values).unwrap();
    values
}

pub(crate) fn client(name: &str) -> ClientId {
    name.parse().unwrap()
}

/// A plan of `rounds` rounds in which `clients` clients are all wanted.
pub(crate) fn plan(clients: usize, rounds: u64) -> RoundPlan {
    RoundPlan {
        rounds,
        cohort: Cohort {
            target: clients,
            fraction: 1.0,
            over_select: 1.0,
        },
        quorum: clients,
        deadline: Millis::from_secs(600),
        grace: Millis::from_secs(300),
        tolerate: 0,
        seed: SEED,
        evaluate: None,
        population: None,
        mode: Mode::Synchronous,
        late: LatePolicy::Reject,
        max_staleness: 0,
        private_rounds: None,
        allow_small_quorum: true,
    }
}

/// A server's directory that goes away with it.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) directory: ServerDirectory,
    pub(crate) base: ModelRef,
    pub(crate) root: TempDir,
}

impl Bed {
    /// With a base of these tensors as model 0.
    pub(crate) fn with_base(tensors: &[Tensor<'_>]) -> Self {
        let root = TempDir::new().unwrap();
        let directory = ServerDirectory::new(root.path().join("hub"));
        let model = directory.model(ModelVersion::new(0));
        fs::create_dir_all(&model).unwrap();
        fs::create_dir_all(directory.state()).unwrap();
        let base = write(&model.join(files::MODEL), tensors);
        let manifest = Manifest {
            format: FORMAT,
            federation: "digits".parse().unwrap(),
            version: base.version,
            digest: base.digest,
            size_bytes: base.size_bytes,
            tensors: BTreeMap::new(),
            rollback: None,
            merge: None,
        };
        files::write_json(&model.join(files::MANIFEST), &manifest).unwrap();
        Self {
            directory,
            base,
            root,
        }
    }

    /// With one tensor `w` of two numbers.
    pub(crate) fn new() -> Self {
        Self::with_base(&[("w", Dtype::F32, &[1.0, 2.0])])
    }

    /// Puts a valid update in its place.
    pub(crate) fn update(
        &self,
        round: u64,
        name: &str,
        num_examples: u64,
        tensors: &[Tensor<'_>],
    ) -> (ClientId, UpdateRef) {
        let (client, round) = (client(name), RoundNumber::new(round));
        let unnamed = self.root.path().join(format!("update-{name}"));
        let written = write(&unnamed, tensors);
        let place = files::update(&self.directory, round, &client, &written.digest);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::rename(&unnamed, place).unwrap();
        let update = UpdateRef {
            payload: written.digest,
            num_examples,
            bytes: written.size_bytes,
        };
        (client, update)
    }

    pub(crate) fn job(&self, updates: &[(ClientId, UpdateRef)], recipe: Recipe) -> MergeJob {
        MergeJob {
            directory: self.directory.clone(),
            federation: "digits".parse().unwrap(),
            round: RoundNumber::new(1),
            base: self.base,
            updates: updates.iter().map(counted).collect(),
            recipe,
            weight: Weight::Examples,
            max_weight: f64::INFINITY,
            privacy: None,
            trusted: None,
            freeze: Freeze::default(),
            seed: SEED,
            resources: Resources {
                threads: 2,
                memory_bytes: 1 << 26,
            },
            keep_updates: 1,
        }
    }

    /// The federation's authority, made when it is first needed.
    pub(crate) fn authority(&self) -> Authority {
        let name = "digits".parse().unwrap();
        let now = Clock::with_offset(0).now();
        Authority::load(&self.directory, now)
            .unwrap_or_else(|_| Authority::create(&self.directory, &name, now).unwrap())
    }

    pub(crate) fn candidate(&self) -> std::path::PathBuf {
        let round = RoundNumber::new(1);
        self.directory.candidate(round).join(files::MODEL)
    }

    /// Merges by the mean, and keeps every model.
    fn workshop(&self, ledger: &Ledger, staging: &Staging, compute: &Compute) -> Workshop {
        let job = self.job(&[], Recipe::of(Method::Mean));
        Workshop {
            directory: self.directory.clone(),
            ledger: ledger.clone(),
            staging: staging.clone(),
            compute: compute.clone(),
            clock: Clock::with_offset(0),
            authority: watch::channel(Arc::new(self.authority())).1,
            federation: job.federation,
            keep: None,
            terms: ByRound::always(MergeTerms {
                recipe: job.recipe,
                weight: job.weight,
                max_weight: job.max_weight,
                privacy: None,
                trusted: job.trusted,
                freeze: job.freeze,
                seed: job.seed,
            }),
            resources: job.resources,
            keep_updates: 0,
        }
    }

    /// Starts a driver as a server does: from the ledger, or at the beginning.
    pub(crate) async fn start(&self, plan: RoundPlan, stay: Stay) -> Running {
        let ledger = Ledger::open(&self.directory.ledger()).await.unwrap();
        let coordinator = match ledger.record().await.unwrap() {
            Some(record) => Coordinator::restore(plan, record).unwrap(),
            None => Coordinator::new(plan, self.base),
        };
        let limits = StagingLimits {
            bytes: ByteSize::from_mebibytes(1),
            uploads: 4,
        };
        let staging = Staging::open(self.directory.staging(), limits).unwrap();
        let (clock, compute) = (Clock::with_offset(0), Compute::start(2).unwrap());
        let workshop = self.workshop(&ledger, &staging, &compute);
        let offers = ByRound::always(Offer {
            encodings: vec![Encoding::F32],
            density: Density::default(),
            max_update: ByteSize::new(10_000),
            noise: None,
        });
        let quiet = Output {
            quiet: true,
            ..Output::default()
        };
        let told = ledger.last_round().await.unwrap();
        let (driver, federation) = Driver::new(Equipment {
            quarantine: Quarantine {
                rejections: 1000,
                connections: Connections::default(),
            },
            coordinator,
            clock,
            ledger: ledger.clone(),
            workshop,
            offers: offers.clone(),
            rollbacks: ledger.rollbacks().await.unwrap(),
            console: Console::new(quiet, self.directory.clone(), told),
            stay,
        });
        let stop = CancellationToken::new();
        let uploads = Uploads {
            directory: self.directory.clone(),
            ledger: ledger.clone(),
            staging,
            compute,
            federation: federation.clone(),
            clock,
            offers,
            max_examples: 1000,
            header: HeaderLimits::default(),
            max_magnitude: 100.0,
            max_length: 100.0,
            max_replaced: 0.1,
            yardstick: Yardstick::default(),
            turns: Turns::default(),
        };
        Running {
            ledger,
            federation,
            uploads,
            driving: tokio::spawn(driver.run(stop.clone())),
            stop,
        }
    }
}

/// A driver at work.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) ledger: Ledger,
    pub(crate) federation: Federation,
    pub(crate) uploads: Uploads,
    pub(crate) driving: JoinHandle<Result<(), Failure>>,
    pub(crate) stop: CancellationToken,
}

impl Running {
    pub(crate) async fn attend(&self, name: &str) -> Seat {
        let seat = self.federation.attend(client(name), [1; 16]).await;
        seat.unwrap()
    }

    /// Waits until things stand so.
    pub(crate) async fn until(&self, holds: impl Fn(&View) -> bool) -> View {
        let mut view = self.federation.watch();
        let view = view.wait_for(|view| holds(view)).await.unwrap();
        View::clone(&view)
    }

    /// Has an update decided that is in place.
    pub(crate) async fn submit(&self, round: u64, update: (ClientId, UpdateRef)) {
        let decided = self
            .federation
            .decide(update.0, RoundNumber::new(round), Ok(update.1));
        assert_eq!(decided.await.unwrap(), Ok(()));
    }

    /// Ends as a crash does: in the middle, without a farewell.
    pub(crate) async fn crash(self) {
        self.driving.abort();
        let _cut_off = self.driving.await;
        self.ledger.close().await;
    }
}

/// Waits until a client is told to take part in a round, and tells its base.
pub(crate) async fn invitation(seat: &mut Seat) -> v1::Invitation {
    let invited = |notice: &v1::Notice| matches!(&notice.state, Some(State::Invitation(_)));
    let notice = seat.notices.wait_for(invited).await.unwrap().clone();
    match notice.state {
        Some(State::Invitation(invitation)) => invitation,
        Some(State::Standby(_) | State::Evaluation(_) | State::Ended(_)) | None => {
            unreachable!("was waited for")
        }
    }
}

/// An update of the first round as its merge counts it.
fn counted((client, update): &(ClientId, UpdateRef)) -> (ClientId, Counted) {
    let counted = Counted {
        update: update.clone(),
        round: RoundNumber::new(1),
        staleness: 0,
    };
    (client.clone(), counted)
}

/// A digest of nothing in particular.
pub(crate) fn some_digest() -> Digest {
    Digest::of(b"something else")
}

/// A channel whose bytes go through TLS: each connection of it is carried to `server` and shakes hands there.
pub(crate) async fn channel_through(tls: ClientConfig, server: SocketAddr) -> Channel {
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut near, _) = plain.accept().await.unwrap();
        let socket = TcpStream::connect(server).await.unwrap();
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let connector = TlsConnector::from(Arc::new(tls));
        let mut far = connector.connect(name, socket).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    });
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}
