//! A federation of ten thousand rounds: its server starts as fast as a new one, and its list fits a screen.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use fedmerge_common::ids::{ModelVersion, RoundNumber};
use fedmerge_server::store::ledger::{Ledger, RoundStory, Rounds, StoredModel};
use serde_json::json;

use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::values::Values;

const ROUNDS: u64 = 10_000;
/// From the start of the process to the answer of its first call.
const LIMIT: Duration = Duration::from_secs(2);

/// Makes the one round of a ledger ten thousand, of eight clients each.
async fn lengthen(path: &Path) {
    let ledger = Ledger::open(path).await.unwrap();
    let RoundStory { mut summary, .. } = ledger.rounds(Rounds::Newest(1)).await.unwrap().remove(0);
    let outcome = summary.clients.values().next().unwrap().clone();
    let names = (1..=8).map(|number| format!("client-{number}").parse().unwrap());
    summary.clients = names
        .zip(std::iter::repeat(outcome))
        .collect::<BTreeMap<_, _>>();
    let rounds: Vec<_> = (2..=ROUNDS)
        .map(|number| {
            let mut round = summary.clone();
            round.round = RoundNumber::new(number);
            round
        })
        .collect();
    let mut stored = ledger.newest_model().await.unwrap().unwrap();
    stored.model.version = ModelVersion::new(ROUNDS);
    let record = ledger.record().await.unwrap();
    let mut record = serde_json::to_value(record).unwrap();
    record["state"]["rounds_opened"] = json!(ROUNDS);
    record["state"]["base"] = json!(stored.model);
    record["state"]["last_round"] = json!(rounds.last());
    let record = serde_json::from_value(record).unwrap();
    ledger.commit(&record, &rounds).await.unwrap();
    let round = Some(RoundNumber::new(ROUNDS));
    let newest = StoredModel { round, ..stored };
    ledger.publish(&newest).await.unwrap();
    ledger.close().await;
}

#[test]
fn a_server_of_ten_thousand_rounds_answers_within_two_seconds_of_its_start() {
    let mut federation = Federation::new(&Plan::of(1));
    federation.start_server();
    federation.enrol(&["a"]);
    let trainer = federation.trainer("a", &Values::base().plus(1.0), 1);
    federation.start_client("a", &trainer);
    federation.next_round();
    federation.client_end("a").well();
    federation.server_end().well();

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(lengthen(&federation.path("server/state/ledger.sqlite")));
    let models = federation.path("server/models");
    fs::rename(models.join("1"), models.join(ROUNDS.to_string())).unwrap();
    let plan = Plan {
        rounds: 0,
        ..Plan::of(1)
    };
    federation.install(&plan.to_string());

    let begun = Instant::now();
    federation.start_server();
    let status = federation.run(&["server", "status", "--dir", "server"]);
    let took = begun.elapsed();
    let told = status.well().stdout;
    assert!(told.contains("rounds       10000 over"), "{told}");
    assert!(took < LIMIT, "{took:?}");

    let list = ["server", "rounds", "list", "--dir", "server"];
    let listed = federation.run(&list).well();
    assert_eq!(listed.stdout.lines().count(), 21, "{listed}");
    assert_eq!(
        listed.stderr,
        "9980 earlier rounds are not listed: --all lists them\n"
    );
    let listed = federation.run(&[&list[..], &["--all"]].concat()).well();
    assert_eq!(listed.stdout.lines().count(), 10_001);
}
