//! The files that `fedmerge server init` writes for the operator: every common key, its default and its meaning.
//!
//! Invariant: a file that nobody changed says the same as one in which nothing but the method is set: a new federation gets the one that
//! keeps the most against attackers, and an old plan that does not name its method keeps what it had.

use fedmerge_common::ids::FederationName;
use toml::Value;

const PLAN_HEAD: &str = r#"# The plan of this federation: the model it improves, how rounds are held, how updates are merged.
# A key that you leave out has the value that stands here, but for `method`. After a change: fedmerge server check-config

"#;

const PLAN_KEEP: &str = r#"# keep = { best = 1, last = 5, every = 10 }
                            # models that stay on disk: the best by [evaluate], the last, each tenth; without it all do
"#;

const PLAN_BODY: &str = r#"
[round]
count    = 10               # rounds to hold; 0 = until stopped
cohort   = { target = 2, fraction = 1.0, over_select = 1.0 }
                            # target: updates wanted, a round closes when it has them
                            # fraction: share of the attending clients that is invited, never fewer than the target
                            # over_select: invitations for each wanted update; 1.3 invites 13 for 10, as some drop out
quorum   = 2                # accepted updates without which a round is abandoned
allow_small_quorum = true   # to try things out with two clients: of fewer than 3 updates a client can subtract its own and see
                            # another's. Remove it, and raise target and quorum to 3 or more
deadline = "30m"            # how long a round waits; a client that trains or sends is waited for up to twice as long
grace    = "30s"            # how long a client may show no progress after the deadline, or be gone
mode     = "synchronous"    # or "buffered": whoever is there gets a task, and each `target` updates are merged
late     = "reject"         # or "carry": late updates count in the next round, by 1/sqrt(1 + staleness)

[merge]
method   = "flame"          # the majority that goes the same way, clipped to its median length: what a red team does least to
                            # (fedmerge simulate --red-team); left out, it is trimmed-mean
                            # by coordinate: mean, median, trimmed-mean, meamed, phocas, sign-majority, task-arithmetic, ties,
                            #   dare-linear, dare-ties, della, della-linear, breadcrumbs, breadcrumbs-ties, sce, ram, magmax,
                            #   consensus
                            # by distance: krum, multi-krum, bulyan, geometric-median, centered-clipping, mda, caf, dnc, fltrust,
                            #   flame, moNNA
tolerate = 0                # f: clients that may be hostile; raise cohort.target and quorum to at least 2f + 1. trimmed-mean and
                            # others that count f are the plain mean with 0; flame withstands any minority
before   = []               # [{ method = "clip", norm = "median" }] shortens updates that are longer than most; norm may be a
                            # number or "adaptive", and stages go on in this order: clip, arc, nnm, bucketing
weight   = "examples"       # or "uniform"; mean, task-arithmetic, ties and their like weigh, all others count every client once
max_weight = 5.0            # most that a claim of examples can buy: so many times the median weight; inf = no limit
lambda   = 1.0              # scale of the merged task vector
optimizer = { method = "none" }
                            # or momentum, nesterov, adam, yogi, adagrad: the merged task vector as a gradient
freeze   = []               # tensors that never change, such as ["*.embed_tokens.*"]
seed     = 0                # fixes the choice of cohorts, and what dare, della and bucketing draw

[update]
encodings = ["f32"]         # how updates are sent, preferred first: "f32" is exact; beside it, "bf16" is 2 times smaller,
                            # "int8" 4, "sign" 30, "top-k" 45, "seeded-mask" 75 and "ternary" 90; what these lose is made up for
# density = 0.05            # share of the values that "top-k", "ternary" and "seeded-mask" keep
max_bytes = "2GiB"          # largest update

# [privacy]                 # differential privacy for clients; it needs method = "mean" and weight = "uniform" above
# clip    = 1.0             # length to which updates are shortened, or "adaptive"
# noise   = 4.25            # standard deviation of the noise on their sum, in clips: see fedmerge privacy --help
# epsilon = 8.0             # the budget, at delta = 1e-5; the federation ends when it is spent
# by      = "server"        # or "clients": each adds so much noise itself, and any method will do

# [evaluate]                # without this table every merged model is published; with it, clients compare it with its base first
# metric = "accuracy"       # what they measure on data of their own that they do not train on; for a loss: goal = "min"
# accept = { min_gain = -0.005, quantile = 0.5 }
                            # published if the median client loses no more than 0.005; or rule = "trimmed-mean", tolerate = 1
"#;

const SETTINGS: &str = r#"# The settings of this server. A key that you leave out has the value that stands here.
# After a change: fedmerge server check-config

listen = "0.0.0.0:7600"       # HOST:PORT, TLS always; port 0 takes a free one

[admin]
listen = "127.0.0.1:0"        # where administrators come in, with certificates of their own; a free port of this machine

# [tls]                       # for a site with an authority of its own: its machines take part without tokens
# client_ca    = "site-ca.pem"  # PEM, seen from this file; whoever has a certificate of it and fits a name below is a client
# client_crl   = "site.crl"     # what that authority has taken back, PEM
# client_names = ["dns:*.wards.example"]
                              # which names of a certificate name clients, by what stands for *: dns:, uri: or email:
# client_labels = { site = "north" }
                              # labels of its clients, beside those of their certificates (uri:fedmerge-label:KEY=VALUE)
# require_approval = false      # true: a person approves each

[limits]
clients      = 10_000         # enrolled clients
connections  = 2_000          # open connections
strangers    = 256            # peers that have shown no certificate yet; the oldest of the largest crowd makes room
calls        = 200            # calls of a client in a second, in the long run; more are told when to come back
handshakes   = 200            # TLS handshakes of an address in a second, in the long run; more are not answered
connections_of_client = 16    # open connections of one client; the oldest makes room
streams      = 32             # calls under way on a connection
message_bytes     = "8MiB"    # largest message
call_header_bytes = "16KiB"   # all headers of a call
header_bytes = "16MiB"        # header of an update's file
tensors      = 1_000_000      # tensors in an update's file
name_bytes   = 1024           # longest name of a tensor
ledger_bytes = "4GiB"         # the ledger; a server whose ledger is full waits
log_bytes    = "64MiB"        # the log; the one before is kept beside it
rejections   = 5              # rounds in a row in which an update may be rejected before its client is in quarantine
staged_bytes = "16GiB"        # all incomplete uploads together, on disk
uploads      = 16             # uploads that are sent at the same time; others are told when to come back
examples     = 1_000_000_000  # examples that an update may claim
magnitude    = 1e6            # largest absolute value in a task vector
length       = 100.0          # how many times as long as the median of the last merge an update may be
replaced     = 0.1            # largest share of the base's weights that an update may put others in the place of

[enrolment]
certificate_life = "24h"      # a client's certificate, which it renews by itself when two thirds of that are over
absence          = "30d"      # after the end of its certificate a client may still come back for so long
clock_skew       = "5m"       # how far a client's clock may be off

[merge]
memory       = "512MiB"       # bound on a merge's memory; changes its speed, never its result
threads      = 0              # 0 = all cores
keep_updates = 3              # rounds for which updates are kept, so that a merge can be repeated
"#;

/// A new federation's `federation.toml`; `base` is the path of its first base, as seen from the file's directory.
#[must_use]
pub fn plan(name: &FederationName, base: &str) -> String {
    let base = Value::from(base);
    format!(
        "{PLAN_HEAD}name = \"{name}\"\nbase = {base}   # a safetensors file or a Hugging Face directory, seen from this file\n\
         {PLAN_KEEP}{PLAN_BODY}"
    )
}

/// A new server's `server.toml`.
#[must_use]
pub fn settings() -> String {
    SETTINGS.to_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed test should panic")]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::directory::ServerDirectory;
    use crate::plan::FederationPlan;
    use crate::settings::Settings;

    #[test]
    fn a_new_plan_says_what_a_plan_for_two_clients_says_that_sets_nothing_else() {
        let path = Path::new("dir/federation.toml");
        let name = "ward-study".parse().unwrap();
        let written = FederationPlan::parse(&plan(&name, "base.safetensors"), path).unwrap();
        let bare = "name = \"ward-study\"\nbase = \"base.safetensors\"\n\
                    [merge]\nmethod = \"flame\"\n\
                    [round]\ncohort = { target = 2 }\nallow_small_quorum = true";
        assert_eq!(written, FederationPlan::parse(bare, path).unwrap());
        assert_eq!(written.name, name);
    }

    #[test]
    fn any_path_of_a_base_survives_the_plan() {
        let name = "a".parse().unwrap();
        for base in [
            "../base.safetensors",
            "with \"quotes\" and \\",
            "it's # a {base}",
        ] {
            let written = FederationPlan::parse(&plan(&name, base), Path::new("f.toml")).unwrap();
            assert_eq!(written.base, Path::new(base));
        }
    }

    #[test]
    fn what_the_comments_of_a_plan_offer_can_be_written() {
        let offered = plan(&"a".parse().unwrap(), "b")
            .replace("before   = []               # ", "before = ")
            .replace(" shortens", " # shortens")
            .replace(
                "freeze   = []               # tensors that never change, such as ",
                "freeze = ",
            )
            .replace("[\"f32\"]", "[\"top-k\", \"f32\"]")
            .replace("# density =", "density =")
            .replace("# keep =", "keep =")
            .replace("# [evaluate]", "[evaluate]")
            .replace("# metric =", "metric =")
            .replace("# accept =", "accept =");
        let plan = FederationPlan::parse(&offered, Path::new("f.toml")).unwrap();
        assert_eq!(plan.keep.map(|keep| keep.every), Some(10));
        assert_eq!(plan.round.evaluate.unwrap().metric, "accuracy");
        assert_eq!((plan.recipe.before.len(), plan.encodings.len()), (1, 2));
        assert!(plan.freeze.matches("model.embed_tokens.weight"));
    }

    #[test]
    fn new_settings_are_the_defaults() {
        let root = tempfile::tempdir().unwrap();
        let directory = ServerDirectory::new(root.path());
        fs::write(directory.settings(), settings()).unwrap();
        assert_eq!(Settings::read(&directory).unwrap(), Settings::default());
    }
}
