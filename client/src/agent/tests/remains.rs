//! What an earlier process had finished: gone on with where the server still waits for it, and dropped elsewhere.

use super::evaluating::asked;
use super::*;

fn trained_in(number: u64) -> Memory {
    Memory::Trained {
        round: round(number),
        base: base(number - 1).digest,
        trained: trained(Some(180)),
    }
}

fn prepared_in(number: u64) -> Memory {
    Memory::Prepared(header(number))
}

fn agent_with(remains: Memory) -> Agent {
    Agent::new(Stay::WhileItLasts, Evaluator::Present, Some(remains))
}

/// An invitation to the same round from another base.
fn invited_elsewhere() -> Event {
    let task = Task {
        base: base(8),
        ..task(3)
    };
    Event::NoticeReceived(Notice::Invited(task))
}

fn round_closed() -> Event {
    Event::UpdateAnswered {
        round: round(3),
        answer: Answer::Rejected(Rejection::round_closed(round(3))),
    }
}

#[test]
fn each_finished_step_is_remembered_until_the_decision() {
    let remembered: Vec<Option<Memory>> = (0..=5)
        .map(|steps| agent_after(Stay::WhileItLasts, path(3).into_iter().take(steps)).memory())
        .collect();
    let expected = [
        None,
        None,
        None,
        Some(trained_in(3)),
        Some(prepared_in(3)),
        Some(prepared_in(3)),
    ];
    assert_eq!(remembered, expected);
    let mut agent = agent_after(Stay::WhileItLasts, path(3));
    agent.step(accepted(3));
    assert_eq!(agent.memory(), None);
}

#[test]
fn after_a_crash_at_any_step_no_finished_step_is_done_again() {
    for steps in 1..=5 {
        let crashed = agent_after(Stay::WhileItLasts, path(3).into_iter().take(steps));
        let mut agent = Agent::new(Stay::WhileItLasts, Evaluator::Present, crashed.memory());
        let mut effects = Vec::new();
        for event in path(3).into_iter().chain([accepted(3)]) {
            effects.extend(agent.step(event));
        }
        let count = |is_wanted: fn(&Effect) -> bool| {
            effects.iter().filter(|effect| is_wanted(effect)).count()
        };
        let trainings = count(|effect| matches!(effect, Effect::Train(_)));
        let preparations = count(|effect| matches!(effect, Effect::Prepare(..)));
        let uploads = count(|effect| *effect == Effect::Upload(header(3)));
        let expected = (usize::from(steps < 3), usize::from(steps < 4), 1);
        assert_eq!((trainings, preparations, uploads), expected, "{steps}");
        assert_eq!(lines(&effects).last().unwrap(), "round 3: accepted");
    }
}

#[test]
fn a_finished_training_is_gone_on_with_from_its_base() {
    let mut agent = agent_with(trained_in(3));
    assert_eq!(agent.memory(), Some(trained_in(3)));
    let effects = agent.step(invited(3));
    let told = "round 3: goes on with the training that was finished before";
    assert_eq!(lines(&effects), [told]);
    assert_eq!(effects[1..], [Effect::Download(task(3))]);
    assert_eq!(agent.memory(), Some(trained_in(3)));
    let effects = agent.step(Event::BaseDownloaded { round: round(3) });
    assert_eq!(effects[1..], [Effect::Prepare(task(3), trained(Some(180)))]);
    assert_eq!(agent.memory(), Some(trained_in(3)));
}

#[test]
fn a_ready_update_is_sent_as_it_is() {
    let mut agent = agent_with(prepared_in(3));
    let effects = agent.step(invited(3));
    let told = "round 3: goes on with the update that was ready before";
    assert_eq!(lines(&effects), [told]);
    assert_eq!(effects[1..], [Effect::Upload(header(3))]);
    assert_eq!(agent.memory(), Some(prepared_in(3)));
}

#[test]
fn a_finished_training_that_nobody_waits_for_is_dropped_and_told() {
    let of_no_use = [
        standby("", ""),
        invited(4),
        invited_elsewhere(),
        asked(4),
        ended(),
    ];
    for notice in of_no_use {
        let mut agent = agent_with(trained_in(3));
        let effects = agent.step(notice.clone());
        let told =
            "round 3: what was finished before is dropped: the server waits for it no longer";
        assert_eq!(lines(&effects)[0], told, "{notice:?}");
        assert_eq!(agent.memory(), None);
        let is_invited = matches!(notice, Event::NoticeReceived(Notice::Invited(_)));
        let begins = matches!(effects.last(), Some(Effect::Download(_)));
        assert_eq!(begins, is_invited, "{notice:?}");
    }
}

#[test]
fn an_update_from_another_base_is_dropped_and_told() {
    let mut agent = agent_with(prepared_in(3));
    let effects = agent.step(invited_elsewhere());
    let told =
        "round 3: what was finished before is dropped: the round starts from another base now";
    assert_eq!(lines(&effects), [told]);
    assert!(matches!(effects.last(), Some(Effect::Download(task)) if task.base == base(8)));
    assert_eq!(agent.memory(), None);
}

#[test]
fn the_answer_that_was_lost_is_asked_for_before_anything_else() {
    for notice in [standby("the merge of 3 updates", ""), invited(4)] {
        let mut agent = agent_with(prepared_in(3));
        assert_eq!(agent.step(notice.clone()), [Effect::Upload(header(3))]);
        assert_eq!(agent.memory(), Some(prepared_in(3)));
        assert_eq!(agent.step(Event::UpdateSent { round: round(3) }), []);
        assert_eq!(agent.step(Event::LinkLost), []);
        assert_eq!(agent.step(invited(4)), [], "it waits for the answer");
        let effects = agent.step(accepted(3));
        assert_eq!(lines(&effects), ["round 3: accepted"]);
        assert_eq!(effects[1..], [Effect::Download(task(4))]);
        assert_eq!(agent.memory(), None);
    }
}

#[test]
fn the_answer_that_was_lost_is_asked_for_before_the_candidate_it_is_part_of_is_evaluated() {
    for evaluated in [3, 4] {
        let mut agent = agent_with(prepared_in(3));
        assert_eq!(agent.step(asked(evaluated)), [Effect::Upload(header(3))]);
        assert_eq!(agent.memory(), Some(prepared_in(3)));
        assert_eq!(agent.step(Event::UpdateSent { round: round(3) }), []);
        assert_eq!(agent.step(asked(evaluated)), [], "it waits for the answer");
        let effects = agent.step(accepted(3));
        assert_eq!(lines(&effects), ["round 3: accepted"]);
        assert!(matches!(effects[1..], [Effect::Measure(..)]), "{effects:?}");
        assert_eq!(agent.memory(), None);
    }
}

#[test]
fn a_stop_while_the_answer_is_asked_for_leaves_the_evaluation_to_the_next_process() {
    let mut agent = agent_with(prepared_in(3));
    agent.step(asked(3));
    assert_eq!(
        agent.step(Event::StopAsked),
        [Effect::Abort, Effect::Leave],
        "nothing is declined"
    );
    assert_eq!(agent.memory(), Some(prepared_in(3)));
}

#[test]
fn an_update_that_the_server_knows_no_more_is_dropped_and_told() {
    let mut agent = agent_with(prepared_in(3));
    agent.step(invited(5));
    let effects = agent.step(round_closed());
    let told = "round 3: what was finished before is dropped: the round is over";
    assert_eq!(lines(&effects), [told]);
    assert_eq!(effects[1..], [Effect::Download(task(5))]);
}

#[test]
fn an_update_that_is_late_after_all_is_rejected_as_ever() {
    let mut agent = agent_with(prepared_in(3));
    agent.step(invited(3));
    assert!(lines(&agent.step(round_closed()))[0].starts_with("round 3: rejected (round-closed)"));
}

#[test]
fn a_federation_that_ends_is_left_when_its_server_goes_before_it_answers() {
    let mut agent = agent_with(prepared_in(3));
    assert_eq!(agent.step(ended()), [Effect::Upload(header(3))]);
    let effects = agent.step(Event::LinkLost);
    assert_eq!(effects[0], Effect::Abort);
    let told = "round 3: what was finished before is dropped: the server is gone";
    assert_eq!(lines(&effects)[0], told);
    assert_eq!(effects.last(), Some(&Effect::Leave));
    assert_eq!(agent.memory(), None);
}

#[test]
fn a_stop_before_the_server_was_heard_leaves_the_remains_to_the_next_process() {
    for notices in [vec![], vec![standby("", "")]] {
        let mut agent = agent_with(prepared_in(3));
        for notice in notices {
            agent.step(notice);
        }
        let effects = agent.step(Event::StopAsked);
        assert_eq!(effects.last(), Some(&Effect::Leave));
        assert_eq!(lines(&effects), Vec::<String>::new(), "nothing is declined");
        assert_eq!(agent.memory(), Some(prepared_in(3)));
    }
}
