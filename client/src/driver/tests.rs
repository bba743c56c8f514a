//! A whole client against a scripted server: invitation to acceptance, and each way to leave.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

mod evaluating;
mod python;
mod remains;
mod theatre;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use fedmerge_common::checkpoint::CheckpointWriter;
use fedmerge_common::digest::Digest;
use fedmerge_common::dtype::Dtype;
use fedmerge_common::reason::{DeclineKind, Rejection};
use fedmerge_common::schema::{Schema, TensorSpec};
use fedmerge_proto::status::RefusalReason;
use rustix::process::{Pid, test_kill_process};

use self::theatre::{Seen, Theatre, routes};
use super::*;
use crate::testbed::{Authority, client_id, federation, serve};
use crate::trainer::command::TrainerCommand;
use crate::trainer::evaluator::EvaluatorCommand;

/// A checkpoint of six ones.
fn checkpoint(path: &Path, shape: [usize; 2]) -> Vec<u8> {
    let weight = TensorSpec::new("weight", Dtype::F32, shape.to_vec()).unwrap();
    let schema = Schema::new(vec![weight]).unwrap();
    let writer = CheckpointWriter::create(path, &schema, &BTreeMap::new()).unwrap();
    writer.write_f32(0, 0, &[1.0; 6]).unwrap();
    writer.finish().unwrap();
    fs::read(path).unwrap()
}

struct Play {
    root: tempfile::TempDir,
    directory: PathBuf,
    theatre: Theatre,
    evaluator: Option<String>,
    time_limit: Millis,
}

fn play() -> Play {
    let root = tempfile::tempdir().unwrap();
    Play {
        directory: root.path().join("client"),
        theatre: Theatre::new(checkpoint(&root.path().join("base.safetensors"), [2, 3])),
        evaluator: None,
        time_limit: Millis::from_secs(60),
        root,
    }
}

impl Play {
    /// A command that leaves its process number in a file and sleeps.
    fn sleeper(&self) -> (PathBuf, String) {
        let started = self.root.path().join("started");
        let path = started.display();
        let command = format!("echo $$ > {path}.part; mv {path}.part {path}; sleep 1000");
        (started, command)
    }
}

/// Writes down in a client's directory whom it believes.
fn believe_in(authority: &Authority, directory: &Path) {
    let directory = ClientDirectory::new(directory);
    fs::create_dir_all(directory.identity()).unwrap();
    let pem = pem::encode(&pem::Pem::new("CERTIFICATE", &*authority.certificate));
    fs::write(directory.authority(), pem).unwrap();
}

const COPY: &str = "cp \"$FEDMERGE_BASE\" \"$FEDMERGE_OUT\"";

/// Runs a client until it leaves; what the server saw.
async fn perform(play: Play, command: &str) -> (Result<(), Failure>, Seen) {
    perform_until(|_| std::future::pending(), play, command).await
}

async fn perform_until<F: Future<Output = ()>>(
    stop: impl FnOnce(Arc<Theatre>) -> F,
    play: Play,
    command: &str,
) -> (Result<(), Failure>, Seen) {
    let authority = Arc::clone(&play.theatre.authority);
    let theatre = Arc::new(play.theatre);
    believe_in(&authority, &play.directory);
    let served = serve(&authority, routes(&theatre)).await;
    let site = Site {
        directory: ClientDirectory::new(play.directory),
        settings: Settings {
            server: served.address.clone(),
            federation: federation(),
            client: client_id(),
            certificate: None,
        },
        trainer: Trainer::Command(TrainerCommand {
            command: command.to_owned(),
            time_limit: play.time_limit,
        }),
        evaluator: play.evaluator.map(|command| {
            trainer::Evaluator::Command(EvaluatorCommand {
                command,
                time_limit: play.time_limit,
            })
        }),
        policy: Policy::default(),
        stay: Stay::WhileItLasts,
        identity_wait: Millis::new(0),
        keeper: None,
    };
    let quiet = Output {
        quiet: true,
        ..Output::default()
    };
    let stop = stop(Arc::clone(&theatre));
    let client = drive_until(stop, site, authority.client_tls(), quiet);
    let result = timeout(Duration::from_secs(30), client).await.unwrap();
    let seen = std::mem::take(&mut *theatre.seen.lock().unwrap());
    (result, seen)
}

async fn appears(path: &Path) {
    while !path.exists() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_trains_submits_and_leaves_at_the_end() {
    let command =
        "cp \"$FEDMERGE_BASE\" \"$FEDMERGE_OUT\"; echo '{\"num_examples\":180,\"loss\":0.5}'";
    let (result, seen) = perform(play(), command).await;
    result.unwrap();
    assert_eq!(seen.attended, 1);
    let header = &seen.begun[0];
    assert_eq!(header.round, 3);
    assert_eq!(header.num_examples, 180);
    assert_eq!(
        header.encoding(),
        v1::Encoding::Bf16,
        "the first that the client knows"
    );
    assert_eq!(header.metrics.get("loss"), Some(&0.5));
    assert_eq!(
        Digest::of(&seen.payload),
        header.payload.clone().unwrap().try_into().unwrap()
    );
}

#[tokio::test]
async fn a_rejected_update_does_not_stop_the_client() {
    let mut play = play();
    play.theatre.rejection = Some(Rejection::non_finite("weight", 1, f32::NAN));
    let (result, seen) = perform(play, COPY).await;
    result.unwrap();
    assert_eq!(seen.begun.len(), 1);
    assert!(seen.declined.is_empty());
}

#[tokio::test]
async fn a_failed_trainer_is_a_decline_with_its_words() {
    let (result, seen) = perform(play(), "echo 'no data' >&2; exit 1").await;
    result.unwrap();
    assert_eq!(seen.declined[0].round, 3);
    assert_eq!(
        seen.declined[0].kind(),
        v1::DeclineKind::from(DeclineKind::TrainerFailed)
    );
    assert!(seen.declined[0].detail.ends_with("no data"));
    assert!(seen.begun.is_empty());
}

#[tokio::test]
async fn a_trainer_that_writes_nothing_is_a_decline() {
    let (result, seen) = perform(play(), "true").await;
    result.unwrap();
    assert_eq!(seen.declined[0].kind(), v1::DeclineKind::BadCheckpoint);
}

#[tokio::test]
async fn a_plan_of_unknown_encodings_is_a_decline_by_policy() {
    let mut play = play();
    play.theatre.encodings = vec![98, 99];
    let (result, seen) = perform(play, COPY).await;
    result.unwrap();
    assert_eq!(seen.declined[0].kind(), v1::DeclineKind::Policy);
}

#[tokio::test]
async fn a_copied_identity_ends_with_a_hint_when_its_wait_is_over() {
    let mut play = play();
    play.theatre.refusal = Some(RefusalReason::IdentityInUse);
    let (result, _) = perform(play, "true").await;
    let failure = result.unwrap_err();
    assert_eq!(failure.exit, ExitCode::NotPermitted);
    assert!(failure.hint.unwrap().contains("enrol a client of its own"));
}

#[tokio::test]
async fn a_client_that_was_evicted_ends_and_says_to_enrol_again() {
    let mut play = play();
    play.theatre.refusal = Some(RefusalReason::ClientUnknown);
    let (result, seen) = perform(play, "true").await;
    let failure = result.unwrap_err();
    assert_eq!(failure.exit, ExitCode::NotPermitted);
    assert!(failure.hint.unwrap().starts_with("enrol again"));
    assert_eq!(seen.attended, 1);
}

#[tokio::test]
async fn a_link_that_breaks_off_is_made_again() {
    let mut play = play();
    play.theatre.breaks = 2;
    let (result, seen) = perform(play, COPY).await;
    result.unwrap();
    assert_eq!((seen.attended, seen.begun.len()), (3, 1));
}

#[tokio::test]
async fn a_stop_kills_the_trainer_declines_and_ends_well() {
    let play = play();
    let (started, command) = play.sleeper();
    let stop = |_| async move { appears(&started).await };
    let (result, seen) = perform_until(stop, play, &command).await;
    result.unwrap();
    assert_eq!(seen.declined[0].kind(), v1::DeclineKind::Interrupted);
    assert!(seen.begun.is_empty());
}

#[tokio::test]
async fn a_federation_that_has_ended_lets_its_clients_go() {
    let mut play = play();
    play.theatre.is_over = true;
    let (result, seen) = perform(play, COPY).await;
    result.unwrap();
    assert_eq!(seen.attended, 1);
    assert!(seen.begun.is_empty() && seen.declined.is_empty());
}

#[tokio::test]
async fn a_trainer_that_hangs_costs_the_round_and_not_the_client() {
    let mut play = play();
    play.time_limit = Millis::new(100);
    let (result, seen) = perform(play, "sleep 1000").await;
    result.unwrap();
    assert_eq!(seen.declined[0].kind(), v1::DeclineKind::TrainerTimedOut);
}

#[tokio::test]
async fn a_checkpoint_of_another_shape_is_a_decline_that_names_the_tensor() {
    let play = play();
    let other = play.root.path().join("other.safetensors");
    checkpoint(&other, [3, 2]);
    let command = format!("cp {} \"$FEDMERGE_OUT\"", other.display());
    let (result, seen) = perform(play, &command).await;
    result.unwrap();
    assert_eq!(seen.declined[0].kind(), v1::DeclineKind::BadCheckpoint);
    assert!(
        seen.declined[0].detail.contains("weight"),
        "{}",
        seen.declined[0].detail
    );
}

#[tokio::test]
async fn a_trainer_may_leave_the_directory_it_was_started_in() {
    let mut play = play();
    let here = std::env::current_dir().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    play.directory = up.join(play.directory.strip_prefix("/").unwrap());
    assert!(play.directory.is_relative());
    // Deeper than here, so that `..` from there is somewhere else.
    let deep: PathBuf = here.components().map(|_| "deep").collect();
    let elsewhere = play.root.path().join(deep);
    fs::create_dir_all(&elsewhere).unwrap();
    let command = format!("cd '{}' && {COPY}", elsewhere.display());
    let (result, seen) = perform(play, &command).await;
    result.unwrap();
    assert_eq!(seen.begun.len(), 1);
}

#[tokio::test]
async fn a_client_that_ends_for_good_has_killed_its_trainer_before() {
    let mut play = play();
    play.theatre.refusal = Some(RefusalReason::ClientUnknown);
    play.theatre.attendances = 1;
    let (started, command) = play.sleeper();
    let root = std::mem::replace(&mut play.root, tempfile::tempdir().unwrap());
    let evict = {
        |theatre: Arc<Theatre>| async move {
            appears(&started).await;
            theatre.break_off();
            std::future::pending::<()>().await;
        }
    };
    let (result, _) = perform_until(evict, play, &command).await;
    assert_eq!(result.unwrap_err().exit, ExitCode::NotPermitted);
    let process = fs::read_to_string(root.path().join("started")).unwrap();
    let pid = Pid::from_raw(process.trim().parse().unwrap()).unwrap();
    // A kill takes a moment; meanwhile this thread gives no task of the client another chance.
    let patience = Instant::now() + Duration::from_secs(10);
    while is_at_work(pid) {
        assert!(Instant::now() < patience, "the trainer outlived its client");
        std::thread::yield_now();
    }
}

/// Whether a process runs: one that ended and was not waited for does not.
fn is_at_work(pid: Pid) -> bool {
    let stat =
        fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('Z'));
    test_kill_process(pid).is_ok() && state == Some(false)
}

#[tokio::test]
async fn a_base_older_than_the_last_process_was_given_is_declined() {
    let play = play();
    fs::create_dir_all(&play.directory).unwrap();
    let newer = Digest::of(b"newer");
    let remembered = format!(
        r#"{{"version":1,"federation":"{}","lineage":{{"newest":{{"version":5,"digest":"{newer}"}},"earlier":[]}}}}"#,
        federation()
    );
    let path = ClientDirectory::new(&play.directory).lineage();
    fs::write(&path, &remembered).unwrap();
    let (result, seen) = perform(play, COPY).await;
    result.unwrap();
    let [declined] = &seen.declined[..] else {
        panic!("{:?}", seen.declined);
    };
    assert_eq!(declined.kind, i32::from(v1::DeclineKind::BaseRefused));
    assert!(seen.begun.is_empty());
}
