//! Admissions: each refusal, the answer that was lost, and many at once.

use fedmerge_proto::status::{Refusal, RefusalReason};
use tokio::task::JoinSet;

use super::*;
use crate::store::ledger::AdmissionRefusal;

async fn with_token(uses: u32) -> (TempDir, Ledger) {
    let (directory, ledger) = new_ledger().await;
    ledger.add_token(&token("t1", uses)).await.unwrap();
    (directory, ledger)
}

async fn refusal(ledger: &Ledger, admission: &Admission) -> Refusal {
    let before = (
        ledger.tokens().await.unwrap(),
        ledger.clients().await.unwrap(),
    );
    let refusal = ledger.admit(admission).await.unwrap().unwrap_err();
    let after = (
        ledger.tokens().await.unwrap(),
        ledger.clients().await.unwrap(),
    );
    assert_eq!(before, after, "a refusal changed the ledger: {refusal}");
    refusal.into()
}

async fn used(ledger: &Ledger) -> u32 {
    ledger.tokens().await.unwrap()[0].used
}

#[tokio::test]
async fn an_admission_counts_a_use_and_enters_the_client() {
    let (_directory, ledger) = with_token(2).await;
    ledger.admit(&wish("t1", "a", 1)).await.unwrap().unwrap();
    assert_eq!(used(&ledger).await, 1);
    let client = ledger.client(&"a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(client.key, [1; 32]);
    assert_eq!(client.enrolled, Timestamp::new(150));
    assert_eq!(client.token, Some("t1".parse().unwrap()));
}

#[tokio::test]
async fn an_unknown_token_and_a_wrong_secret_read_the_same() {
    let (_directory, ledger) = with_token(2).await;
    let unknown = refusal(&ledger, &wish("other", "a", 1)).await;
    let wrong = Admission {
        secret_hash: [8; 32],
        ..wish("t1", "a", 1)
    };
    assert_eq!(unknown.reason, RefusalReason::TokenUnknown);
    assert_eq!(refusal(&ledger, &wrong).await, unknown);
}

#[tokio::test]
async fn a_token_admits_until_its_last_millisecond() {
    let (_directory, ledger) = with_token(5).await;
    let at = |now, client| Admission {
        now: Timestamp::new(now),
        ..wish("t1", client, 1)
    };
    ledger.admit(&at(199, "a")).await.unwrap().unwrap();
    let refusal = refusal(&ledger, &at(200, "b")).await;
    assert_eq!(refusal.reason, RefusalReason::TokenExpired);
    assert_eq!(
        refusal.detail,
        "token `t1` expired at 1970-01-01T00:00:00.2Z"
    );
}

#[tokio::test]
async fn a_token_that_is_used_up_says_how_often() {
    let (_directory, ledger) = with_token(1).await;
    ledger.admit(&wish("t1", "a", 1)).await.unwrap().unwrap();
    let refusal = refusal(&ledger, &wish("t1", "b", 2)).await;
    assert_eq!(refusal.reason, RefusalReason::TokenUsedUp);
    assert_eq!(refusal.detail, "token `t1` is used 1 of 1 times");
}

#[tokio::test]
async fn a_name_belongs_to_the_first_machine() {
    let (_directory, ledger) = with_token(2).await;
    ledger.admit(&wish("t1", "a", 1)).await.unwrap().unwrap();
    let taken = refusal(&ledger, &wish("t1", "a", 2)).await;
    assert_eq!(taken.reason, RefusalReason::NameTaken);
    let wrong_secret = Admission {
        secret_hash: [8; 32],
        ..wish("t1", "a", 2)
    };
    let blind = refusal(&ledger, &wrong_secret).await;
    assert_eq!(blind.reason, RefusalReason::TokenUnknown);
}

#[tokio::test]
async fn the_federation_takes_no_more_clients_than_its_limit() {
    let (_directory, ledger) = with_token(9).await;
    let with_limit = |client, key| Admission {
        max_clients: 1,
        ..wish("t1", client, key)
    };
    ledger.admit(&with_limit("a", 1)).await.unwrap().unwrap();
    let refusal = refusal(&ledger, &with_limit("b", 2)).await;
    assert_eq!(refusal.reason, RefusalReason::TooLarge);
    assert_eq!(
        refusal.detail,
        "the federation has 1 clients, its limit is 1"
    );
    ledger.admit(&with_limit("a", 1)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_machine_whose_answer_was_lost_comes_again_without_another_use() {
    let (_directory, ledger) = with_token(1).await;
    let first = wish("t1", "a", 1);
    let later = Admission {
        now: Timestamp::new(99_999),
        ..first.clone()
    };
    for admission in [&first, &first, &later] {
        ledger.admit(admission).await.unwrap().unwrap();
    }
    assert_eq!(used(&ledger).await, 1);
    let client = ledger.client(&"a".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(client.enrolled, first.now);
    let wrong_secret = Admission {
        secret_hash: [8; 32],
        ..first
    };
    let refusal = refusal(&ledger, &wrong_secret).await;
    assert_eq!(refusal.reason, RefusalReason::TokenUnknown);
}

#[tokio::test]
async fn a_revoked_token_admits_nobody_not_even_again() {
    let (_directory, ledger) = with_token(2).await;
    ledger.admit(&wish("t1", "a", 1)).await.unwrap().unwrap();
    ledger
        .revoke_token(&"t1".parse().unwrap(), Timestamp::new(160))
        .await
        .unwrap();
    for admission in [wish("t1", "a", 1), wish("t1", "b", 2)] {
        let refusal = refusal(&ledger, &admission).await;
        assert_eq!(refusal.reason, RefusalReason::TokenRevoked);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_twenty_machines_at_once_a_token_of_five_uses_admits_five() {
    let (directory, ledger) = with_token(5).await;
    // As two processes: each with connections of its own.
    let other = Ledger::open(&path(&directory)).await.unwrap();
    let mut admissions = JoinSet::new();
    for number in 0..20 {
        let ledger = if number % 2 == 0 { &ledger } else { &other }.clone();
        let admission = wish("t1", &format!("c{number}"), number);
        admissions.spawn(async move { ledger.admit(&admission).await.unwrap() });
    }
    let results = admissions.join_all().await;
    let refusals: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    let used_up = AdmissionRefusal::TokenUsedUp {
        token: "t1".parse().unwrap(),
        used: 5,
        uses: 5,
    };
    assert_eq!(refusals, vec![used_up; 15]);
    assert_eq!(other.clients().await.unwrap().len(), 5);
    assert_eq!(used(&ledger).await, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tokens_made_by_another_process_admit_at_once() {
    let (directory, server) = new_ledger().await;
    let command = Ledger::open(&path(&directory)).await.unwrap();
    let mut work = JoinSet::new();
    for number in 0..10 {
        let (server, command) = (server.clone(), command.clone());
        work.spawn(async move {
            let name = format!("t{number}");
            command.add_token(&token(&name, 1)).await.unwrap();
            server
                .admit(&wish(&name, &format!("c{number}"), number))
                .await
                .unwrap()
                .unwrap();
        });
    }
    work.join_all().await;
    assert_eq!(command.clients().await.unwrap().len(), 10);
    assert!(
        server
            .tokens()
            .await
            .unwrap()
            .iter()
            .all(|token| token.used == 1)
    );
}
