//! Clients with certificates of a site's own authority: who is entered, whose keys follow one another, and who is shut out by name.

use fedmerge_common::identity::{Issuer, Labels};
use fedmerge_common::ids::ClientId;
use fedmerge_proto::status::{Refusal, RefusalReason};

use super::*;
use crate::store::ledger::{
    Approval, ClientState, EnrolledClient, Renewal, ShownKey, SiteCertificate,
};

fn a() -> ClientId {
    "a".parse().unwrap()
}

fn certificate(key: u8) -> SiteCertificate {
    SiteCertificate {
        client: a(),
        shown: ShownKey {
            issuer: Issuer::Site,
            key: [key; 32],
            connected: Timestamp::new(500),
            now: Timestamp::new(500),
        },
        labels: Labels::from([("site".to_owned(), "north".to_owned())]),
        until: Timestamp::new(1_000),
        needs_approval: false,
        max_clients: 2,
    }
}

async fn show(ledger: &Ledger, certificate: &SiteCertificate) -> Result<(), RefusalReason> {
    let recognised = ledger.recognise_of_site(certificate).await.unwrap();
    recognised.map_err(|refusal| Refusal::from(refusal).reason)
}

async fn client(ledger: &Ledger) -> EnrolledClient {
    ledger.client(&a()).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_first_certificate_enters_its_client_and_the_next_takes_its_place() {
    let (_directory, ledger) = new_ledger().await;
    assert_eq!(show(&ledger, &certificate(1)).await, Ok(()));
    let entered = client(&ledger).await;
    assert_eq!((entered.token, entered.key), (None, [1; 32]));
    assert_eq!(entered.until, Some(Timestamp::new(1_000)));
    assert_eq!(entered.labels, certificate(1).labels);

    // The same key may be certified anew, with other labels.
    let later = SiteCertificate {
        labels: Labels::new(),
        until: Timestamp::new(2_000),
        ..certificate(1)
    };
    assert_eq!(show(&ledger, &later).await, Ok(()));
    let known = client(&ledger).await;
    assert_eq!((known.labels, known.renewals), (Labels::new(), 0));
    assert_eq!(known.until, Some(Timestamp::new(2_000)));

    assert_eq!(show(&ledger, &certificate(2)).await, Ok(()));
    assert_eq!(client(&ledger).await.renewals, 1);
    // What is under way on a connection of before goes on and changes nothing; a new one is another machine.
    let mut older = certificate(1);
    older.shown.connected = Timestamp::new(499);
    assert_eq!(show(&ledger, &older).await, Ok(()));
    assert_eq!(client(&ledger).await.key, [2; 32]);
    assert_eq!(
        show(&ledger, &certificate(1)).await,
        Err(RefusalReason::ClientLocked)
    );
    assert_eq!(
        show(&ledger, &certificate(2)).await,
        Err(RefusalReason::ClientLocked)
    );
}

#[tokio::test]
async fn an_evicted_name_stays_out_whatever_certificate_names_it_until_a_person_approves() {
    let (_directory, ledger) = new_ledger().await;
    show(&ledger, &certificate(1)).await.unwrap();
    let now = Timestamp::new(600);
    let keys = ledger.evict(&a(), "lost", now).await.unwrap();
    assert_eq!(keys, Some(vec![[1; 32]]));
    assert_eq!(client(&ledger).await.state, ClientState::Evicted);
    for key in [1, 2] {
        assert_eq!(
            show(&ledger, &certificate(key)).await,
            Err(RefusalReason::ClientEvicted)
        );
    }
    for key in [1, 2] {
        let refusal = ledger.recognise_of_site(&certificate(key)).await.unwrap();
        let refusal = refusal.unwrap_err().to_string();
        assert_eq!(refusal, "client `a` was evicted: lost");
    }
    assert_eq!(ledger.approve(&a(), now).await.unwrap(), Approval::Approved);
    assert_eq!(show(&ledger, &certificate(1)).await, Ok(()));
}

#[tokio::test]
async fn whoever_is_to_be_approved_waits_and_whoever_is_too_many_is_told() {
    let (_directory, ledger) = new_ledger().await;
    let waiting = SiteCertificate {
        needs_approval: true,
        ..certificate(1)
    };
    for _ in 0..2 {
        assert_eq!(
            show(&ledger, &waiting).await,
            Err(RefusalReason::ApprovalPending)
        );
    }
    ledger.approve(&a(), Timestamp::new(600)).await.unwrap();
    assert_eq!(show(&ledger, &waiting).await, Ok(()));
    for (name, key, expected) in [("b", 2, Ok(())), ("c", 3, Err(RefusalReason::TooLarge))] {
        let another = SiteCertificate {
            client: name.parse().unwrap(),
            ..certificate(key)
        };
        assert_eq!(show(&ledger, &another).await, expected);
    }
    // Whoever is evicted takes no place.
    ledger
        .evict(&a(), "lost", Timestamp::new(700))
        .await
        .unwrap();
    let third = SiteCertificate {
        client: "c".parse().unwrap(),
        ..certificate(3)
    };
    assert_eq!(show(&ledger, &third).await, Ok(()));
}

#[tokio::test]
async fn neither_way_of_coming_in_leads_to_the_clients_of_the_other() {
    let (_directory, ledger) = new_ledger().await;
    ledger.add_token(&token("t1", 2)).await.unwrap();
    ledger.admit(&wish("t1", "a", 1)).await.unwrap().unwrap();
    for key in [1, 2] {
        assert_eq!(
            show(&ledger, &certificate(key)).await,
            Err(RefusalReason::NameTaken)
        );
    }
    let of_site = SiteCertificate {
        client: "b".parse().unwrap(),
        ..certificate(5)
    };
    show(&ledger, &of_site).await.unwrap();
    for key in [5, 6] {
        let taken = ledger.admit(&wish("t1", "b", key)).await.unwrap();
        assert_eq!(
            Refusal::from(taken.unwrap_err()).reason,
            RefusalReason::NameTaken
        );
    }
    let of_federation = ShownKey {
        issuer: Issuer::Federation,
        key: [5; 32],
        ..of_site.shown
    };
    let refused = ledger.recognise(&of_site.client, of_federation).await;
    let refused = Refusal::from(refused.unwrap().unwrap_err());
    assert_eq!(refused.reason, RefusalReason::NotPermitted);
    // The federation's authority gives no certificate to whom it did not enrol.
    let renewal = Renewal {
        client: "b".parse().unwrap(),
        key: [5; 32],
        next_key: [7; 32],
        now: Timestamp::new(600),
        until: Timestamp::new(2_000),
        absence: Millis::new(300),
        spacing: Millis::ZERO,
    };
    let refusal = ledger.renew(&renewal).await.unwrap().unwrap_err();
    assert_eq!(Refusal::from(refusal).reason, RefusalReason::NotPermitted);
}

#[tokio::test]
async fn one_key_after_another_has_to_wait_and_another_clients_key_is_not_taken() {
    let (_directory, ledger) = new_ledger().await;
    show(&ledger, &certificate(1)).await.unwrap();
    show(&ledger, &certificate(2)).await.unwrap();
    assert_eq!(
        show(&ledger, &certificate(3)).await,
        Err(RefusalReason::Busy)
    );
    let mut later = certificate(3);
    later.shown.now = Timestamp::new(60_500);
    later.shown.connected = later.shown.now;
    assert_eq!(show(&ledger, &later).await, Ok(()));
    let b = || SiteCertificate {
        client: "b".parse().unwrap(),
        ..later.clone()
    };
    let with_key = |key| {
        let mut certificate = b();
        certificate.shown.key = [key; 32];
        certificate
    };
    show(&ledger, &with_key(9)).await.unwrap();
    // A key that `a` has used up.
    assert_eq!(
        show(&ledger, &with_key(1)).await,
        Err(RefusalReason::ClientUnknown)
    );
}
