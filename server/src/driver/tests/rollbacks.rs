//! An older model becomes the base again: published, signed, and shown to whoever is invited to it.

use fedmerge_common::rollback::Rollback;
use fedmerge_proto::v1;

use super::*;
use crate::files;
use crate::merging::manifest::{self, Manifest};
use crate::store::ledger::StoredModel;

/// A driver that has published model 1, and its two clients in their places.
async fn with_model_1(bed: &Bed) -> (Running, Seat, Seat) {
    let (running, one, two) = begun(bed, 4).await;
    let first = StoredModel {
        model: bed.base,
        parent: None,
        round: None,
        published: Timestamp::new(0),
        rollback: None,
        score: None,
        removed: None,
    };
    running.ledger.publish(&first).await.unwrap();
    for (name, tensors) in [("ward-1", ONE), ("ward-2", TWO)] {
        running.submit(1, bed.update(1, name, 1, tensors)).await;
    }
    running.until(|view| view.rounds_ended == 1).await;
    (running, one, two)
}

/// The base as version 2.
fn again(bed: &Bed) -> ModelRef {
    ModelRef {
        version: ModelVersion::new(2),
        ..bed.base
    }
}

/// The next invitation to a round after the first.
async fn invited_again(seat: &mut Seat, base: &ModelRef) -> v1::Invitation {
    let wanted = Some(v1::Model::from(*base));
    loop {
        let invitation = invitation(seat).await;
        if invitation.base == wanted {
            return invitation;
        }
        seat.notices.changed().await.unwrap();
    }
}

async fn roll_back(running: &Running, to: ModelRef) -> Result<ModelRef, String> {
    let asked = running.federation.roll_back(RollbackWish {
        to,
        reason: "as it was".into(),
        above: ModelVersion::new(0),
    });
    asked.await.unwrap()
}

#[tokio::test]
async fn clients_are_invited_to_the_older_model_with_what_the_authority_signed() {
    let bed = Bed::new();
    let (running, mut one, _two) = with_model_1(&bed).await;
    assert_eq!(roll_back(&running, bed.base).await, Ok(again(&bed)));
    let invitation = invited_again(&mut one, &again(&bed)).await;
    let rollback = Rollback::try_from(invitation.rollback.unwrap()).unwrap();
    let authority = bed.authority();
    let verified = rollback.verify(
        authority.certificate(),
        authority.federation(),
        &again(&bed),
    );
    assert_eq!(verified, Ok(()));
    assert_eq!(rollback.of, bed.base.version);

    let path = bed.directory.model(again(&bed).version);
    let content = Digest::of_file(&path.join(files::MODEL)).unwrap();
    assert_eq!(content, bed.base.digest);
    let manifest: Option<Manifest> = manifest::read(&path).unwrap();
    let manifest = manifest.unwrap();
    assert_eq!(manifest.version, again(&bed).version);
    assert_eq!(manifest.origin(), bed.base.version);
    assert_eq!(manifest.rollback.unwrap().signed, rollback);
}

#[tokio::test]
async fn a_rollback_that_a_crash_cut_off_is_done_by_the_next_process_and_shown_to_clients() {
    let bed = Bed::new();
    let (running, _one, _two) = with_model_1(&bed).await;
    let record = running.ledger.record().await.unwrap().unwrap();
    running.crash().await;
    // The order is in the ledger, and nothing of it is done.
    let mut coordinator = Coordinator::restore(plan(2, 4), record).unwrap();
    coordinator.step(
        Clock::with_offset(0).now(),
        Event::RollbackAsked {
            to: bed.base,
            reason: "as it was".into(),
            above: ModelVersion::new(0),
        },
    );
    let ledger = Ledger::open(&bed.directory.ledger()).await.unwrap();
    ledger.commit(&coordinator.record(), &[]).await.unwrap();
    ledger.close().await;

    for _ in 0..2 {
        let running = bed.start(plan(2, 4), Stay::Always).await;
        running.until(|view| view.base == again(&bed)).await;
        let mut one = running.attend("ward-1").await;
        let _two = running.attend("ward-2").await;
        let invitation = invited_again(&mut one, &again(&bed)).await;
        assert!(invitation.rollback.is_some(), "also after another restart");
        running.crash().await;
    }
}

#[tokio::test]
async fn a_rollback_to_the_base_or_to_a_model_that_is_gone_is_refused_and_the_rounds_go_on() {
    let bed = Bed::new();
    let (running, mut one, _two) = with_model_1(&bed).await;
    let present = running.federation.now().base;
    let refused = roll_back(&running, present).await.unwrap_err();
    assert!(refused.contains("is the base"), "{refused}");

    let gone = [bed.base.version];
    let now = Timestamp::new(9);
    running.ledger.note_removed(gone, now).await.unwrap();
    let refused = roll_back(&running, bed.base).await.unwrap_err();
    assert_eq!(refused, "model 0 is not kept any more");
    assert_eq!(running.federation.now().base, present);
    invited_again(&mut one, &present).await;
}
