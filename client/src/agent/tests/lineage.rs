//! Bases that go forwards, and those that do not.

use super::*;
use crate::lineage::StepBack;

fn declined(effects: &[Effect]) -> Option<Decline> {
    effects.iter().find_map(|effect| {
        let Effect::Decline { decline, .. } = effect else {
            return None;
        };
        Some(decline.clone())
    })
}

/// An invitation to a round with the content of model `of` as version `version`.
fn invited_back(number: u64, version: u64, of: u64, step_back: Option<StepBack>) -> Event {
    let base = ModelRef {
        version: ModelVersion::new(version),
        ..base(of)
    };
    Event::NoticeReceived(Notice::Invited(Task {
        base,
        step_back,
        noise: None,
        ..task(number)
    }))
}

/// An agent that was given models 0 and 1.
fn led_to_model_1() -> Agent {
    let mut events = path(1);
    events.push(accepted(1));
    events.extend(path(2));
    events.push(accepted(2));
    agent_after(Stay::WhileItLasts, events)
}

#[test]
fn an_older_base_is_declined_and_the_next_one_is_taken() {
    let mut agent = led_to_model_1();
    let effects = agent.step(invited_back(3, 0, 0, None));
    let decline = declined(&effects).unwrap();
    assert_eq!(decline.kind, DeclineKind::BaseRefused);
    assert!(
        decline.detail.contains("goes back to model 0"),
        "{}",
        decline.detail
    );
    let effects = agent.step(invited_back(4, 2, 2, None));
    assert!(matches!(&effects[..], [Effect::Download(task)] if task.round == round(4)));
}

#[test]
fn an_older_model_under_a_new_version_is_taken_where_the_authority_signed_it() {
    let mut agent = led_to_model_1();
    let effects = agent.clone().step(invited_back(3, 2, 0, None));
    assert_eq!(
        declined(&effects).unwrap().kind,
        DeclineKind::BaseRefused,
        "unsigned"
    );
    let of = ModelVersion::new(0);
    let reason = "as it was".to_owned();
    let step_back = Some(StepBack {
        of,
        reason: reason.clone(),
    });
    let effects = agent.step(invited_back(3, 2, 0, step_back));
    let base = ModelVersion::new(2);
    let told = Milestone::RolledBack { base, of, reason };
    assert!(
        matches!(&effects[..], [Effect::Tell(milestone), Effect::Download(_)] if *milestone == told)
    );
}

#[test]
fn the_line_of_bases_outlives_the_process() {
    let lineage = led_to_model_1().lineage().clone();
    let fresh = || Agent::new(Stay::WhileItLasts, Evaluator::Present, None);
    let mut agent = fresh().with_lineage(lineage);
    let effects = agent.step(invited_back(3, 0, 0, None));
    assert!(declined(&effects).is_some());
    let effects = fresh().step(invited_back(3, 0, 0, None));
    assert!(declined(&effects).is_none(), "a new client knows nothing");
}
