//! What each rule of a policy lets out, and files that are no policy.

#![expect(clippy::unwrap_used, reason = "a failed test should panic")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use fedmerge_common::checkpoint::CheckpointWriter;
use fedmerge_common::digest::Digest;
use fedmerge_common::dtype::Dtype;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::schema::TensorSpec;
use fedmerge_common::task_vector::Encoding;
use fedmerge_common::task_vector::header::{FORMAT, FORMAT_KEY};

use super::*;

const NO_LIMIT: ByteSize = ByteSize::new(u64::MAX);

/// An update whose values are 3, 4 and nothing else.
struct Leaving {
    _root: tempfile::TempDir,
    payload: PathBuf,
    base: Schema,
}

impl Leaving {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let payload = root.path().join("update.safetensors");
        let tensor = |name: &str| TensorSpec::new(name, Dtype::F32, vec![2]).unwrap();
        let schema = Schema::new(vec![tensor("w")]).unwrap();
        let metadata = BTreeMap::from([(FORMAT_KEY.to_owned(), FORMAT.to_owned())]);
        let writer = CheckpointWriter::create(&payload, &schema, &metadata).unwrap();
        writer.write_f32(0, 0, &[3.0, -4.0]).unwrap();
        writer.finish().unwrap();
        Self {
            _root: root,
            payload,
            base: Schema::new(vec![tensor("b"), tensor("w")]).unwrap(),
        }
    }

    fn judged(&self, policy: &Policy, bytes: u64, server_limit: ByteSize) -> Result<(), Decline> {
        let header = UpdateHeader {
            round: RoundNumber::new(1),
            base: Digest::of(b"base"),
            encoding: Encoding::F32,
            payload: Digest::of(b"payload"),
            payload_bytes: bytes,
            num_examples: 1,
            metrics: BTreeMap::new(),
        };
        policy.check(&header, server_limit, &self.payload, &self.base)
    }
}

fn read(text: &str) -> Result<Policy, ReadPolicyError> {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("policy.toml");
    fs::write(&path, text).unwrap();
    Policy::read(&path)
}

#[test]
fn without_a_file_what_fits_the_plan_may_leave() {
    let policy = Policy::read(Path::new("/nowhere/policy.toml")).unwrap();
    assert_eq!(policy, Policy::default());
    assert_eq!(policy, read("").unwrap());
    let leaving = Leaving::new();
    let limit = ByteSize::new(1024);
    assert_eq!(leaving.judged(&policy, 1024, limit), Ok(()));
    let decline = leaving.judged(&policy, 1025, limit).unwrap_err();
    assert_eq!(decline.kind, DeclineKind::Policy);
    assert!(decline.detail.contains("1025 bytes"), "{decline}");
    assert!(decline.detail.contains("the server accepts"), "{decline}");
    assert!(!policy.withholds("w"));
    policy
        .check_server(&"fed.example:7600".parse().unwrap())
        .unwrap();
}

#[test]
fn the_sites_own_limit_holds_whatever_the_server_accepts() {
    let (policy, leaving) = (read("max_bytes = \"1KiB\"").unwrap(), Leaving::new());
    assert_eq!(leaving.judged(&policy, 1024, NO_LIMIT), Ok(()));
    let decline = leaving.judged(&policy, 1025, NO_LIMIT).unwrap_err();
    assert_eq!(decline.kind, DeclineKind::Policy);
    assert!(
        decline.detail.contains("this site's policy allows"),
        "{decline}"
    );
}

#[test]
fn a_plan_with_less_noise_than_the_site_wants_is_declined() {
    let noise = |multiplier: f64| LocalNoise::new(1.0, multiplier).unwrap();
    let policy = read("min_noise = 0.5").unwrap();
    assert_eq!(policy.check_noise(Some(&noise(0.5))), Ok(()));
    for (asked, told) in [
        (None, "noise of 0 times"),
        (Some(noise(0.49)), "noise of 0.49 times"),
    ] {
        let decline = policy.check_noise(asked.as_ref()).unwrap_err();
        assert_eq!(decline.kind, DeclineKind::Policy);
        assert!(decline.detail.contains(told), "{decline}");
    }
    assert_eq!(
        read("").unwrap().check_noise(None),
        Ok(()),
        "no rule, no noise"
    );
}

#[test]
fn a_length_may_reach_its_limit_and_not_pass_it() {
    let leaving = Leaving::new();
    let judged = |limit: &str| {
        let policy = read(&format!("max_norm = {limit}")).unwrap();
        leaving.judged(&policy, 1, NO_LIMIT)
    };
    assert_eq!(judged("5.0"), Ok(()));
    let decline = judged("4.999").unwrap_err();
    assert_eq!(decline.kind, DeclineKind::Policy);
    assert!(decline.detail.contains("length is 5.0000"), "{decline}");
}

#[test]
fn patterns_choose_tensors_and_servers() {
    let policy = "withhold = [\"*.embed_tokens.*\", \"head.?\"]\n\
                  servers = [\"fed.example:7600\", \"*.example.org:*\"]\n";
    let policy = read(policy).unwrap();
    for (tensor, is_withheld) in [
        ("model.embed_tokens.weight", true),
        ("head.1", true),
        ("head.12", false),
        ("embed_tokens", false),
    ] {
        assert_eq!(policy.withholds(tensor), is_withheld, "{tensor}");
    }
    for (server, is_allowed) in [
        ("fed.example:7600", true),
        ("fed.example:7601", false),
        ("a.example.org:1", true),
        ("example.org:1", false),
    ] {
        let checked = policy.check_server(&server.parse().unwrap());
        assert_eq!(checked.is_ok(), is_allowed, "{server}");
    }
    let nobody = read("servers = []").unwrap();
    let failure = nobody.check_server(&"fed.example:7600".parse().unwrap());
    assert_eq!(failure.unwrap_err().exit, ExitCode::NotPermitted);
}

#[test]
fn what_is_not_understood_lets_nothing_out() {
    for text in [
        "withold = [\"w\"]",
        "withhold = \"w\"",
        "max_bytes = \"many\"",
        "max_norm = \"5\"",
        "max_norm = nan",
        "max_norm = -1.0",
        "max_norm = inf",
        "min_noise = nan",
        "min_noise = -1.0",
        "servers = \"fed.example\"",
        "= 1",
    ] {
        let failure = Failure::from(read(text).unwrap_err());
        assert_eq!(failure.exit, ExitCode::BadConfiguration, "{text}");
        assert!(failure.message.contains("policy.toml"), "{failure}");
    }
}
