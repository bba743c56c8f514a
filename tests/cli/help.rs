//! Help texts, as people see them: what there is, the defaults, and an example for every command.

use insta::assert_snapshot;

use crate::command::{fedmerge, run};

/// The long help of a command, without spaces at the ends of its lines.
fn help(command: &[&str]) -> String {
    let ended = run(fedmerge(command).arg("--help")).well();
    assert!(ended.stderr.is_empty(), "{ended}");
    let lines: Vec<_> = ended.stdout.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// What is a command's own in its help: all before the options that every command has.
fn own_help(command: &[&str]) -> String {
    let help = help(command);
    let (own, _) = help.split_once("\n  -h, --help").unwrap();
    own.to_owned()
}

#[test]
fn the_program_introduces_itself() {
    assert_snapshot!(help(&[]), @r"
    Federated model merging: clients fine-tune a base on data that stays with them, a server merges
    their task vectors robustly into the next base, round after round

    Usage: fedmerge [OPTIONS] <COMMAND>

    Commands:
      simulate     Run a server and many client processes on this machine: real training, TLS and tokens
      server       Hold a federation: make it, serve it, let clients in, look at it
      client       Take part in a federation
      merge        Merge checkpoints on disk by a recipe, with the engine of the federation
      inspect      Show what is in a checkpoint, a task vector or a residual, tensor by tensor
      privacy      Reckon what noise costs in ε, or how much of it a privacy budget needs
      verify       See whether a published model is what the server of its federation signed
      completions  Print a completion script for a shell
      help         Print this message or the help of the given subcommand(s)

    Options:
      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Output:
          --format <FORMAT>
              What standard output carries

              Possible values:
              - text: For people
              - json: For programs: documented and stable

              [default: text]

      -q, --quiet
              Print results and errors only

      -v, --verbose...
              Say more; twice, still more

    Examples:
      fedmerge simulate                                    a whole federation on this machine
      fedmerge simulate --attack sign-flip --attackers 2   the same with two clients that lie
      fedmerge server init hub && fedmerge server run --dir hub
      fedmerge client enrol --server https://hub:7600 --token fm1.… --dir site
      fedmerge merge recipe.toml --out merged              checkpoints on disk, without a federation

    Exit codes: 0 ok, 64 usage, 65 bad data, 69 unavailable, 70 bug, 75 temporary (try again),
    77 not permitted, 78 bad configuration.
    ");
}

#[test]
fn enrolling_is_explained_with_an_example() {
    assert_snapshot!(own_help(&["client", "enrol"]), @r#"
    Exchange a join string for a certificate, once per machine

    Usage: fedmerge client enrol [OPTIONS] --server <URL> --dir <DIR>

    Options:
          --server <URL>
              The server: https://HOST:PORT

          --token <STRING>
              The join string that `fedmerge server token create` printed

              [env: FEDMERGE_TOKEN]

          --certificate <FILE>
              Certificate that the site's own authority gave this machine, with its chain, PEM: it stays
              where it is

          --key <FILE>
              Private key of that certificate, PEM

          --authority <SHA256>
              The federation's authority, beside a certificate of the site's own: `server check-config`
              prints it

          --dir <DIR>
              Directory to make: the client's key, certificate and cache

          --name <ID>
              The client's name, a-z 0-9 . _ - [default: this machine's name]

          --wait <DURATION>
              How long to wait for a server that is not there yet

              [default: 30s]
    "#);
}

#[test]
fn taking_part_is_explained_with_both_commands_of_a_site() {
    assert_snapshot!(own_help(&["client", "run"]), @r#"
    Take part: wait for invitations, train, submit

    Usage: fedmerge client run [OPTIONS] --train <COMMAND>

    Options:
          --dir <DIR>
              The client's directory, as enrolled

              [default: .]

          --train <COMMAND>
              Command that fine-tunes a base, run by `sh -c`

          --train-timeout <DURATION>
              Longest run of the command before it is killed and the round declined

              [default: 1h]

          --evaluate <COMMAND>
              Command that measures a model on data of this site that nobody trains on, run by `sh -c`

          --evaluate-timeout <DURATION>
              Longest run of that command on one model before it is killed and the evaluation declined

              [default: 1h]

          --once
              Leave after one update, however it ends, and evaluate nothing

          --stay
              Stay when the federation ends, in case it goes on

          --identity-wait <DURATION>
              How long to wait for another process with the same certificate to leave

              [default: 30s]
    "#);
}

#[test]
#[expect(clippy::too_many_lines, reason = "one page of help")]
fn simulating_is_explained_with_every_choice() {
    assert_snapshot!(own_help(&["simulate"]), @r"
    Run a server and many client processes on this machine: real training, TLS and tokens

    Usage: fedmerge simulate [OPTIONS] [PLAN]

    Arguments:
      [PLAN]
              A federation.toml whose round, merge and evaluate tables to use; flags override it

    Options:
          --clients <N>
              Client processes

              [default: 8]

          --rounds <N>
              Rounds [default: 10]

          --method <NAME>
              Merge method [default: trimmed-mean]

              [possible values: mean, median, trimmed-mean, meamed, phocas, sign-majority,
              task-arithmetic, ties, dare-linear, dare-ties, della, della-linear, breadcrumbs,
              breadcrumbs-ties, sce, ram, magmax, consensus, krum, multi-krum, bulyan, geometric-median,
              centered-clipping, mda, caf, dnc, fltrust, flame, moNNA]

          --tolerate <F>
              Hostile clients that the merge withstands [default: 2, fewer where 2 are too many]

          --before <STAGE>
              Before the method, in order: clip:median|adaptive|NORM, arc, nnm, bucketing:SIZE

          --density <SHARE>
              Share of the values that a sparsifying method keeps [default: its own; 0.5 for ties]

          --elect <HOW>
              How ties and its like elect signs: by the sum or one client one vote [default: count]

              [possible values: mass, count]

          --trusted <CLIENT>
              The client that fltrust and moNNA trust [default: the first]

          --encoding <NAME>
              How updates are sent: f32, bf16, int8, sign, top-k, ternary or seeded-mask; top-k:0.05
              sends a twentieth [default: f32]

          --link <LINK>
              A slow link for each client: RATE,DELAY,LOSS, as in 20mbit,80ms,1% [default: none]

          --optimizer <NAME>
              What makes a step of the merged updates [default: none]

              [possible values: momentum, nesterov, adam, yogi, adagrad]

          --weight <HOW>
              Weight of a client: its number of examples, or the same for all [default: examples]

              [possible values: examples, uniform]

          --attack <ATTACK>
              What attackers hand in; μ and σ are mean and standard deviation of what the honest clients
              hand in

              Possible values:
              - sign-flip:         Its own update times −10
              - gaussian:          Noise of standard deviation 1 in place of an update
              - scale:             Its own update times 10
              - label-flip:        An honest update on dishonest data: label y becomes (classes − 1 − y)
              - nan:               Its own update with one value that is not a number
              - free-rider:        No update at all, and a claim of a million examples
              - alie:              A little is enough: μ − 1.5 σ, hidden in the honest clients' spread
                (Baruch et al. 2019)
              - ipm:               Inner product manipulation: −2 μ (Xie et al. 2020)
              - mimic:             A copy of the honest update that lies furthest out, so that it counts
                several times (Karimireddy et al. 2022)
              - min-max:           μ − γ σ, as far out as no two honest updates are apart (Shejwalkar
                and Houmansadr 2021)
              - min-sum:           μ − γ σ, with no larger sum of squared distances than an honest
                update has (Shejwalkar and Houmansadr 2021)
              - backdoor:          An honest update on data of which half has a trigger, four bright
                features, and the label 0 (Gu et al. 2017)
              - model-replacement: The same, scaled up so that the mean is the attacker's model
                (Bagdasaryan et al. 2020)
              - sybil:             Hostile clients that are all but equal, at −μ: a cluster that is
                denser than any of honest clients
              - slow-drift:        As long as an honest update, in one and the same direction in every
                round
              - single-tensor:     The honest mean, but for the smallest tensor, which gets as long a
                step as all others together

          --attackers <N>
              Clients that lie; the last ones [default with --attack or --red-team: 2]

          --red-team
              Try every merge against every attack, in memory instead of in processes, and show the
              worst that befalls each; with --method, --before or a PLAN that merge alone, with --attack
              that attack alone

          --seeds <N>
              How many seeds the red team plays, from --seed on

              [default: 3]

          --partition <HOW>
              How the training examples are spread: iid, dirichlet:ALPHA or by-label

              [default: dirichlet:0.5]

          --dataset <digits|PATH>
              Examples: the embedded digits, or a safetensors file with x (n × d) and y (n)

              [default: digits]

          --hidden-units <N>
              Hidden units of the model: 75 parameters each on digits

              [default: 64]

          --local-steps <N>
              Batches a client trains on in a round

              [default: 40]

          --seed <SEED>
              Fixes the data of each client, the first base and every batch

              [default: 7]

          --out <DIR>
              Directory for everything the run leaves [default: a new one in the system's temporary
              directory]
    ");
}

#[test]
fn a_server_has_these_deeds() {
    assert_snapshot!(own_help(&["server"]), @r"
    Hold a federation: make it, serve it, let clients in, look at it

    Usage: fedmerge server [OPTIONS] <COMMAND>

    Commands:
      init          Make a server's directory: certificate authority, settings and a plan
      run           Serve: gather clients, hold rounds, merge and publish
      check-config  Check the directory's settings, plan and base, and exit
      status        Say what the server does and what it waits for, by whom and until when
      token         Make, list and revoke the tokens by which machines enrol
      clients       Show who is enrolled, approve who waits, and evict
      access        Make certificates for administrators and observers, and rotate the certificate
                    authority
      rounds        Show the rounds that were held, and follow the one that is open
      models        Show and export the models that were published, and go back to an older one
      audit         Show what was done and why, and see whether that log is whole
      backup        Copy the ledger as it is now, while the server runs or not
      help          Print this message or the help of the given subcommand(s)

    Options:
    ");
}

#[test]
fn a_servers_rounds_are_listed_told_and_watched() {
    assert_snapshot!(own_help(&["server", "rounds"]), @r"
    Show the rounds that were held, and follow the one that is open

    Usage: fedmerge server rounds [OPTIONS] <COMMAND>

    Commands:
      list   List the rounds that are over
      show   Tell the whole story of a round: its times, its clients, its merge, its model
      watch  Follow the federation to its end: what is waited for, by whom and until when
      help   Print this message or the help of the given subcommand(s)

    Options:
    ");
    assert_snapshot!(own_help(&["server", "rounds", "list"]), @r"
    List the rounds that are over

    Usage: fedmerge server rounds list [OPTIONS]

    Options:
          --dir <DIR>
              The server's directory

              [default: .]

          --last <N>
              How many, the newest

              [default: 20]

          --all
              All of them
    ");
}

#[test]
fn a_servers_models_are_listed_told_exported_and_gone_back_to() {
    assert_snapshot!(own_help(&["server", "models"]), @r"
    Show and export the models that were published, and go back to an older one

    Usage: fedmerge server models [OPTIONS] <COMMAND>

    Commands:
      list      List the models that were published, the best and the last of them marked
      show      Tell how a model came about: its parent, its merge, the updates in it
      export    Copy a model to a directory that any Hugging Face tool opens
      verify    See whether a model is what the server signed, and whether its updates make it again
      rollback  Make an older model the base again, under a new version
      help      Print this message or the help of the given subcommand(s)

    Options:
    ");
}

#[test]
fn every_command_has_help_and_every_deed_an_example() {
    for deed in [
        &["simulate"][..],
        &["client", "enrol"],
        &["client", "enroll"],
        &["client", "run"],
        &["client", "evaluate"],
        &["client", "status"],
        &["completions"],
        &["server", "backup"],
        &["server", "models", "list"],
        &["server", "models", "show"],
        &["server", "models", "export"],
        &["server", "models", "rollback"],
        &["server", "rounds", "list"],
        &["server", "rounds", "show"],
        &["server", "rounds", "watch"],
        &["server", "status"],
        &["merge"],
    ] {
        assert!(help(deed).contains("Example"), "{deed:?} has no example");
    }
    for group in [&["client"][..], &["client", "train"]] {
        assert!(help(group).contains("Usage: fedmerge"), "{group:?}");
    }
}
