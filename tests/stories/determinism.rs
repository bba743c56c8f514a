//! The same updates give the same bytes, whatever the threads and the order of arrival.

use crate::harness::federation::Federation;
use crate::harness::plan::Plan;
use crate::harness::values::Values;

/// More than one of the merge engine's blocks, so that threads have something to share.
const ELEMENTS: u16 = 20_000;
const CLIENTS: [&str; 3] = ["a", "b", "c"];

/// Values of many magnitudes, none of which adds up without rounding.
fn rough(seed: u32) -> Values {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let unit = f32::from(u16::try_from(state >> 16).unwrap()) / 65_536.0 - 0.5;
        unit * 10.0_f32.powi(i32::try_from(state >> 12 & 7).unwrap() - 4)
    };
    Values {
        w: (0..ELEMENTS).map(|_| next()).collect(),
        b: (0..7).map(|_| next()).collect(),
    }
}

/// Bytes of the model that the clients' updates make when they arrive in this order.
fn model(order: [&str; 3], threads: &str, merge: &'static str) -> Vec<u8> {
    let plan = Plan {
        merge,
        ..Plan::of(CLIENTS.len())
    };
    let mut federation = Federation::from_base(&plan, |path| rough(1).write(path));
    federation.start_server_with(|command| command.env("RAYON_NUM_THREADS", threads));
    federation.enrol(&CLIENTS);
    let mut gates = Vec::new();
    for (seed, name) in (2..).zip(CLIENTS) {
        let gate = federation.gate(name);
        let trainer = federation
            .trainer(name, &rough(seed), 10 * u64::from(seed))
            .behind(&gate);
        federation.start_client(name, &trainer);
        gates.push((name, gate));
    }
    for now in order {
        let (_, gate) = gates.iter_mut().find(|(name, _)| *name == now).unwrap();
        gate.open();
        federation.client(now).next_event("accepted");
    }
    std::fs::read(&federation.next_round().published().path).unwrap()
}

#[test]
fn threads_and_order_of_arrival_do_not_change_a_byte() {
    for merge in ["method = \"mean\"", "method = \"ties\"\ndensity = 0.5"] {
        let one = model(["a", "b", "c"], "1", merge);
        assert!(one.len() > usize::from(ELEMENTS), "{merge}");
        assert!(one == model(["c", "b", "a"], "2", merge), "{merge} differs");
    }
}
