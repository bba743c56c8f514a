//! What the README tells people to type works: every command of it is run, or is listed here with the reason why not.
//!
//! A command that is not in [`COMMANDS`] fails the test, and so does a row of it that the README does not show any more.

use std::fs;
use std::path::Path;
use std::process::Command;

use fedmerge_client::policy::Policy;
use fedmerge_server::directory::ServerDirectory;
use fedmerge_server::plan::FederationPlan;
use fedmerge_server::settings::Settings;

use crate::harness::command::PROGRAM;
use crate::harness::process::Process;
use crate::harness::trainer::quoted;

/// How a command is run here.
#[derive(Clone, Copy, Debug)]
enum How {
    /// To its end, which must be good, as it stands but for the server's port.
    AsShown,
    /// To its end, which must be good, as this line.
    ToItsEnd(&'static str),
    /// As this line beside the commands that follow, like in another terminal; they begin when `ready` says so.
    Beside {
        line: &'static str,
        ready: &'static str,
    },
    /// As it stands, with the Python that is there, where it has numpy.
    WithNumpy,
    /// Not here, for this reason.
    NotHere(&'static str),
}

/// Every command of the README, as it stands there.
const COMMANDS: &[(&str, How)] = &[
    ("cargo run -- simulate", How::ToItsEnd("fedmerge simulate")),
    (
        "cargo run -- simulate --attack sign-flip --attackers 2 --method mean",
        How::ToItsEnd(
            "fedmerge simulate --attack sign-flip --attackers 2 --method mean --rounds 1 --local-steps 5",
        ),
    ),
    (
        "cargo run -- simulate --attack sign-flip --attackers 2",
        How::ToItsEnd(
            "fedmerge simulate --attack sign-flip --attackers 2 --rounds 1 --local-steps 5",
        ),
    ),
    (
        "cargo run -- simulate --red-team --clients 10 --attackers 2 --rounds 20",
        How::ToItsEnd(
            "fedmerge simulate --red-team --clients 6 --attackers 1 --rounds 1 --seeds 1 --local-steps 2 | grep '^flame'",
        ),
    ),
    (
        "cargo test --workspace",
        How::NotHere("this test is a part of it; the check of a clean clone runs it"),
    ),
    (
        "cargo build",
        How::NotHere("the program is built, or this test would not run"),
    ),
    ("export PATH=\"$PWD/target/debug:$PATH\"", How::AsShown),
    (
        "mkdir /tmp/digits && cp client/examples/train_numpy.py /tmp/digits && cd /tmp/digits",
        How::ToItsEnd(
            "mkdir digits && cp \"$REPOSITORY/client/examples/train_numpy.py\" digits && cd digits",
        ),
    ),
    (
        "fedmerge client train --init base.safetensors",
        How::AsShown,
    ),
    (
        "fedmerge server init hub --name digits --base base.safetensors",
        How::AsShown,
    ),
    (
        "fedmerge server run --dir hub",
        How::Beside {
            line: "fedmerge server run --dir hub --listen 127.0.0.1:0",
            ready: "fedmerge server status --dir hub",
        },
    ),
    (
        "export FEDMERGE_TOKEN=$(fedmerge server token create --dir hub --uses 2)",
        How::AsShown,
    ),
    (
        "fedmerge client enrol --server https://localhost:7600 --dir ward-1 --name ward-1",
        How::AsShown,
    ),
    (
        "fedmerge client enrol --server https://localhost:7600 --dir ward-2 --name ward-2",
        How::AsShown,
    ),
    (
        "fedmerge client run --dir ward-1 --train 'fedmerge client train --data digits:1/2' > ward-1.log &",
        How::Beside {
            line: "fedmerge client run --dir ward-1 --train 'fedmerge client train --data digits:1/2'",
            ready: "true",
        },
    ),
    (
        "fedmerge client run --dir ward-2 --train 'fedmerge client train --data digits:2/2'",
        How::AsShown,
    ),
    ("fedmerge server status --dir hub", How::AsShown),
    (
        "fedmerge server token create --dir hub --uses 20 --ttl 12h --label site=ward-3 --require-approval",
        How::AsShown,
    ),
    (
        "fedmerge server token create --dir hub --ephemeral",
        How::AsShown,
    ),
    ("fedmerge server token list --dir hub", How::AsShown),
    ("fedmerge server clients list --dir hub", How::AsShown),
    (
        "fedmerge server clients show --dir hub ward-1",
        How::ToItsEnd("fedmerge server clients show --dir hub ward-1 | grep 'takes part'"),
    ),
    (
        "fedmerge server clients approve --dir hub ward-1",
        How::ToItsEnd("fedmerge server clients approve --dir hub ward-1 | grep 'already'"),
    ),
    (
        "fedmerge server clients evict --dir hub ward-1 --reason 'the machine was lost'",
        How::AsShown,
    ),
    (
        "fedmerge server audit list --dir hub --last 10",
        How::ToItsEnd("fedmerge server audit list --dir hub --last 10 | grep 'client-evicted'"),
    ),
    (
        "fedmerge server audit export audit.jsonl --dir hub",
        How::AsShown,
    ),
    (
        "fedmerge server audit verify --copy audit.jsonl --dir hub",
        How::ToItsEnd(
            "fedmerge server audit verify --copy audit.jsonl --dir hub | grep 'the log is whole'",
        ),
    ),
    (
        "fedmerge server access create grafana --dir hub --role observer --out grafana",
        How::ToItsEnd(
            "fedmerge server access create grafana --dir hub --role observer --out grafana && test -s grafana/grafana.pem",
        ),
    ),
    (
        "fedmerge server access rotate --dir hub --overlap 45d",
        How::ToItsEnd(
            "fedmerge server access rotate --dir hub --overlap 45d && fedmerge server status --dir hub",
        ),
    ),
    (
        "fedmerge server rounds list --dir hub",
        How::ToItsEnd("fedmerge server rounds list --dir hub | grep '10 *published model 10 *2 '"),
    ),
    (
        "fedmerge server rounds show 10 --dir hub",
        How::ToItsEnd(
            "fedmerge server rounds show 10 --dir hub | grep 'of 2 clients pull on their own'",
        ),
    ),
    (
        "fedmerge server rounds watch --dir hub",
        How::ToItsEnd(
            "fedmerge server rounds watch --dir hub | grep 'ended: all 10 planned rounds'",
        ),
    ),
    (
        "fedmerge server backup ledger-monday.sqlite --dir hub",
        How::AsShown,
    ),
    (
        "fedmerge server models list --dir hub",
        How::ToItsEnd(
            "fedmerge server models list --dir hub | grep 'hub/models/10/model.safetensors'",
        ),
    ),
    (
        "fedmerge server models show 10 --dir hub",
        How::ToItsEnd("fedmerge server models show 10 --dir hub | grep 'parent *model 9'"),
    ),
    (
        "fedmerge server models export ward-model --model 10 --dir hub",
        How::ToItsEnd(
            "fedmerge server models export ward-model --model 10 --dir hub && test -s ward-model/model.safetensors",
        ),
    ),
    (
        "fedmerge verify ward-model --authority hub/identity/ca.pem",
        How::ToItsEnd(
            "fedmerge verify ward-model --authority hub/identity/ca.pem | grep '/10, as the server of'",
        ),
    ),
    (
        "fedmerge server models verify 10 --recompute --dir hub",
        How::AsShown,
    ),
    (
        "fedmerge server models rollback 9 --reason 'model 10 fails on ward 7' --dir hub",
        How::ToItsEnd(
            "fedmerge server models rollback 9 --reason 'model 10 fails on ward 7' --dir hub | grep 'model 11 is model 9 again'",
        ),
    ),
    (
        "fedmerge server check-config --dir hub",
        How::ToItsEnd(
            "cp ../plan.toml hub/federation.toml && fedmerge server check-config --dir hub",
        ),
    ),
    (
        "fedmerge simulate hub/federation.toml --attack scale --attackers 2",
        How::ToItsEnd(
            "fedmerge simulate hub/federation.toml --attack scale --attackers 2 --rounds 1 --local-steps 5",
        ),
    ),
    ("fedmerge inspect hub/models/10", How::AsShown),
    (
        "fedmerge inspect ward-1/work/round-10/update/update.safetensors --base hub/models/9",
        How::AsShown,
    ),
    (
        "fedmerge privacy --epsilon 8 --rounds 50",
        How::ToItsEnd("fedmerge privacy --epsilon 8 --rounds 50 | grep 'noise of 4.2443 times'"),
    ),
    (
        "fedmerge client evaluate --data digits:test --base hub/models/10/model.safetensors",
        How::ToItsEnd(
            "fedmerge client evaluate --data digits:test --base hub/models/10/model.safetensors | grep '\"accuracy\":0.9'",
        ),
    ),
    (
        "fedmerge merge recipe.toml --out merged --dry-run",
        How::ToItsEnd(
            "cp ../recipe.toml . && fedmerge merge recipe.toml --out merged --dry-run && test ! -e merged",
        ),
    ),
    (
        "fedmerge merge recipe.toml --out merged --report report.json",
        How::ToItsEnd(
            "fedmerge merge recipe.toml --out merged --report report.json && grep -q '\"cosines\"' report.json",
        ),
    ),
    (
        "FEDMERGE_BASE=base.safetensors FEDMERGE_OUT=tuned.safetensors \
         sh -c 'cp \"$FEDMERGE_BASE\" \"$FEDMERGE_OUT\" && echo \"{\\\"num_examples\\\": 1}\"'",
        How::AsShown,
    ),
    (
        "python3 -m venv venv && venv/bin/pip install numpy safetensors",
        How::NotHere("a test installs nothing"),
    ),
    (
        "fedmerge client train --data digits:1/2 --export digits-1.safetensors",
        How::AsShown,
    ),
    (
        "venv/bin/python train_numpy.py --data digits-1.safetensors --init softmax.safetensors",
        How::WithNumpy,
    ),
    (
        "FEDMERGE_BASE=softmax.safetensors FEDMERGE_OUT=tuned.safetensors FEDMERGE_ROUND=1 \
         venv/bin/python train_numpy.py --data digits-1.safetensors",
        How::WithNumpy,
    ),
];

/// The commands in the page's shell blocks, in order; a line that ends in `\` goes on in the next.
fn commands(page: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut is_shell = false;
    let mut begun = String::new();
    for line in page.lines().map(str::trim) {
        if let Some(language) = line.strip_prefix("```") {
            is_shell = language == "sh";
        } else if is_shell && !line.is_empty() && !line.starts_with('#') {
            let (part, goes_on) = match line.strip_suffix('\\') {
                Some(part) => (part, true),
                None => (line, false),
            };
            begun.push_str(part);
            if !goes_on {
                commands.push(std::mem::take(&mut begun));
            }
        }
    }
    commands
}

fn how(command: &str) -> How {
    let row = COMMANDS.iter().find(|(shown, _)| *shown == command);
    row.unwrap_or_else(|| panic!("a command of the README that no test runs: {command}"))
        .1
}

/// The shell script that does what a reader of the page would do.
fn script(commands: &[String]) -> String {
    let program = Path::new(PROGRAM).parent().unwrap();
    let mut script = format!(
        "set -eu\nexport PATH={}:\"$PATH\" TMPDIR=\"$PWD\" HERE=\"$PWD\" REPOSITORY={}\n\
         trap '[ $? = 0 ] || tail -n 40 \"$HERE\"/beside-*.log' EXIT\n",
        quoted(program),
        quoted(Path::new(env!("CARGO_MANIFEST_DIR")))
    );
    for (number, command) in commands.iter().enumerate() {
        let told = |line: &str| format!("echo \"+\" {}\n", quoted(Path::new(line)));
        script += &match how(command) {
            How::AsShown => {
                // The port is taken from what is free, so that the test meets no other server.
                let line = command.replace("localhost:7600", "$(cat hub/state/address)");
                format!("{}{line}\n", told(&line))
            }
            How::ToItsEnd(line) => format!("{}{line}\n", told(line)),
            How::Beside { line, ready } => format!(
                "{}{line} > \"$HERE/beside-{number}.log\" 2>&1 &\n\
                 until {ready} > \"$HERE/ready.log\" 2>&1; do kill -0 $!; sleep 0.05; done\n",
                told(line)
            ),
            How::WithNumpy => {
                let line = command.replace("venv/bin/python", "python3");
                let has_numpy = "python3 -c 'import numpy, safetensors' 2> /dev/null";
                format!("{}if {has_numpy}; then {line}; fi\n", told(&line))
            }
            How::NotHere(why) => format!("# {command}: {why}\n"),
        };
    }
    script
}

/// The files of TOML that the page shows: settings of a site's authority, a plan, one with privacy, a recipe and a policy.
fn toml(page: &str) -> [&str; 5] {
    let blocks = page.split("```toml\n").skip(1);
    let blocks: Vec<_> = blocks
        .map(|block| block.split_once("```").unwrap().0)
        .collect();
    blocks.try_into().unwrap()
}

#[test]
fn every_command_of_the_readme_works() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let commands = commands(&page);
    for (shown, how) in COMMANDS {
        assert!(
            commands.iter().any(|command| command == shown),
            "not in the README: {shown} ({how:?})"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let [site, plan, private, recipe, policy] = toml(&page);
    let server = ServerDirectory::new(dir.path().join("site"));
    fs::create_dir(server.root()).unwrap();
    fs::write(server.settings(), site).unwrap();
    let settings = Settings::read(&server).unwrap();
    assert!(settings.tls.client_ca.is_some() && settings.tls.client_crl.is_some());
    let private = FederationPlan::parse(private, Path::new("federation.toml")).unwrap();
    assert_eq!(private.round.private_rounds, Some(50));
    fs::write(dir.path().join("plan.toml"), plan).unwrap();
    fs::write(dir.path().join("recipe.toml"), recipe).unwrap();
    let path = dir.path().join("policy.toml");
    fs::write(&path, policy).unwrap();
    let policy = Policy::read(&path).unwrap();
    assert!(
        policy.withholds("head.weight") && policy.max_norm.is_some() && policy.min_noise.is_some()
    );
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &script(&commands)])
        .current_dir(dir.path());
    Process::start("a reader", &mut shell).end().well();
}

#[test]
fn commands_are_found_in_shell_blocks_alone() {
    let page =
        "a\n```text\nnot this\n```\n```sh\n# nor this\nfirst \\\n  word\n\nsecond\n```\nnor that\n";
    assert_eq!(commands(page), ["first word", "second"]);
}

#[test]
#[should_panic(expected = "a command of the README that no test runs: fedmerge fly")]
fn a_command_that_no_test_runs_is_found() {
    script(&["fedmerge fly".to_owned()]);
}
