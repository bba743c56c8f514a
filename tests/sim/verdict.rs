//! What must be true when all is over: everything came to its end, and nothing that was promised was broken.

use fedmerge_common::digest::Digest;
use fedmerge_common::ids::RoundNumber;
use fedmerge_coordinator::{ClientOutcome, RoundOutcome};

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
    let Some(story) = story.filter(|_| stories.next().is_none()) else {
        panic!("{} was told that its update of {round} counts", client.name);
    };
    let is_lost = matches!(
        story.outcome(&client.name, round),
        Some(ClientOutcome::Lost { .. })
    );
    let is_in = disk.content().contains(&(client.name.clone(), round));
    let is_published = matches!(story.outcome, RoundOutcome::Published(_)) && !is_lost;
    assert_eq!(is_in, is_published, "{} {round}", client.name);
}
