//! What must be true when all is over: everything came to its end, and nothing that was promised was broken.

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::RoundNumber;
use fedmerge_common::reason::DeclineKind;
use fedmerge_coordinator::ClientOutcome;

use super::client::{Client, Manner};
use super::disk::Disk;

/// Looks at the stories of so many rounds, at the models, and at what clients were told.
pub(crate) fn check(rounds: u64, disk: &Disk, clients: &[Client]) {
    let told = disk.stories().keys().map(|round| round.get());
    let expected: Vec<u64> = (1..=rounds).collect();
    assert_eq!(
        told.collect::<Vec<_>>(),
        expected,
        "every round came to its end"
    );
    no_honest_client_was_led_backwards(disk, clients);
    let honest = clients.iter().filter(|one| one.manner == Manner::Honest);
    for client in honest {
        assert!(client.has_left, "{} did not hear of the end", client.name);
        let (told, trained) = client.told();
        for (round, payload) in told {
            counts(disk, client, *round, payload);
        }
        for (round, times) in trained {
            assert_eq!(
                *times, 1,
                "{} trained {times} times for {round}",
                client.name
            );
        }
    }
}

/// Every base that an honest client was invited to is newer than those before, or signed to be an older model again.
fn no_honest_client_was_led_backwards(disk: &Disk, clients: &[Client]) {
    let honest = clients.iter().filter(|one| one.manner == Manner::Honest);
    for client in honest {
        for story in disk.stories().values() {
            if let Some(ClientOutcome::Declined(decline)) = story.clients.get(&client.name) {
                assert_ne!(decline.kind, DeclineKind::BaseRefused, "{decline}");
            }
        }
    }
}

/// An update of which its client was told that it counts is in one story, and in the newest model where that round was published.
fn counts(disk: &Disk, client: &Client, round: RoundNumber, payload: &Digest) {
    let mut stories = disk.stories().values().filter(|story| {
        matches!(
            story.outcome(&client.name, round),
            Some(ClientOutcome::Accepted { update, .. } | ClientOutcome::Lost { update, .. })
                if update.payload == *payload
        )
    });
    let story = stories.next();
    let is_given_up = || {
        let mut told = disk.stories().values();
        let carried = |outcome| outcome == Some(&ClientOutcome::CarriedOver);
        !disk.rollbacks().is_empty()
            && told.any(|story| carried(story.outcome(&client.name, round)))
    };
    if story.is_none() && is_given_up() {
        return;
    }
    let Some(story) = story.filter(|_| stories.next().is_none()) else {
        panic!("{} was told that its update of {round} counts", client.name);
    };
    let is_lost = matches!(
        story.outcome(&client.name, round),
        Some(ClientOutcome::Lost { .. })
    );
    let is_in = disk.content().contains(&(client.name.clone(), round));
    let is_published = !is_lost
        && story
            .outcome
            .published()
            .is_some_and(|model| disk.line().contains(&model.version));
    assert_eq!(is_in, is_published, "{} {round}", client.name);
}
