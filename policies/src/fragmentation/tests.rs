//! Numbers that a person can check: with one sighting a weight is 1,024, and fragmentation in hundredths is the
//! sum of share x hundredths, printed here as weight / 1,024.

use super::*;

const SIGHTING: u64 = 1_024;

fn ask(cpus_milli: u32, memory_mib: u64, gpus: GpuQuantity) -> Ask {
    Ask { cpus_milli, memory_mib, gpus: Some(gpus), models: ANY_MODEL }
}

fn whole(count: u32) -> Ask {
    ask(1_000, 1_000, GpuQuantity::Whole(count))
}

fn part(blocks: u32) -> Ask {
    ask(1_000, 1_000, GpuQuantity::Blocks(blocks))
}

/// Each of `asks` once; their number must be a power of two, so that it is published.
fn mix(asks: &[Ask]) -> TaskMix {
    let mut mix = TaskMix::default();
    for ask in asks {
        mix.see(ask);
    }
    assert_eq!(mix.total_weight(), SIGHTING * asks.len() as u64, "all of it is published");
    mix
}

const fn room(cpus_milli: u32, memory_mib: u64, blocks: &[u32]) -> NodeRoom<'_> {
    NodeRoom { cpus_milli, memory_mib, blocks, model: 0 }
}

fn lost_blocks(room: NodeRoom<'_>, asks: &[Ask]) -> u64 {
    fragmentation(room, &mix(asks)) / SIGHTING
}

#[test]
fn what_a_typical_request_cannot_use_is_lost() {
    let other_model = Ask { models: 1 << 7, ..whole(1) };
    let cases: [(&str, u64, NodeRoom<'_>, &[Ask]); 12] = [
        ("all can be used", 0, room(64_000, 64_000, &[100; 4]), &[whole(1)]),
        ("a rest of 30 is no whole one", 30, room(64_000, 64_000, &[30, 100]), &[whole(1)]),
        ("a rest of 30 is no 40 either", 30, room(64_000, 64_000, &[30, 40, 100]), &[part(40)]),
        ("two free do not make a gang of four", 200, room(64_000, 64_000, &[100, 100, 0, 0]), &[whole(4)]),
        ("no CPU is left", 170, room(999, 64_000, &[70, 100]), &[part(10)]),
        ("no memory is left", 170, room(64_000, 999, &[70, 100]), &[part(10)]),
        ("CPUs for one of four", 300, room(1_999, 64_000, &[100; 4]), &[whole(1)]),
        ("memory for two of four", 200, room(64_000, 2_000, &[100; 4]), &[whole(1)]),
        ("CPUs for two parts of 40", 120, room(2_000, 64_000, &[100, 100]), &[part(40)]),
        ("of another model", 100, room(64_000, 64_000, &[100]), &[other_model]),
        ("the sum over the mix: 30 and 130", 160, room(64_000, 64_000, &[30, 100]), &[whole(1), whole(2)]),
        ("nothing free, nothing lost", 0, room(0, 0, &[0, 0]), &[whole(1)]),
    ];
    for (what, expected, room, asks) in cases {
        assert_eq!(lost_blocks(room, asks), expected, "{what}");
    }
}

#[test]
fn an_unknown_mix_loses_nothing() {
    assert_eq!(fragmentation(room(0, 0, &[50]), &TaskMix::default()), 0);
}

#[test]
fn a_fraction_goes_to_the_accelerator_where_least_is_lost() {
    type Case<'a> = (&'a str, &'a [u32], u32, &'a [Ask], usize, i64);
    let cases: [Case<'_>; 4] = [
        // Breaking the whole one loses 70; using up the 40 saves 30 of the 40 lost.
        ("the broken one", &[100, 40], 30, &[whole(1)], 1, -30),
        // 60 - 30 is of no use to another 40; 70 - 30 is.
        ("the rest that is of use", &[60, 70], 30, &[part(40)], 1, 0),
        ("the tighter one of equals", &[100, 90], 10, &[part(10)], 1, 0),
        ("the first of the same", &[0, 80, 80], 80, &[part(80)], 1, 0),
    ];
    for (what, blocks, wanted, asks, accelerator, rise_blocks) in cases {
        let (room, mix) = (room(64_000, 64_000, blocks), mix(asks));
        let choice = best_accelerator(room, &mix, &part(wanted), fragmentation(room, &mix)).expect(what);
        let expected = Choice { accelerator: Some(accelerator), rise: rise_blocks * SIGHTING.cast_signed() };
        assert_eq!(choice, expected, "{what}");
    }
}

#[test]
fn the_rise_is_the_difference_of_before_and_after() {
    let mix = mix(&[whole(2), part(50)]);
    let before = room(8_000, 8_000, &[30, 100, 100, 100]);
    let lost = fragmentation(before, &mix);
    // (30 lost to the pair + 30 to the half); afterwards 130 to the pair and 30 to the half.
    assert_eq!(lost / SIGHTING, 60);
    let rise = rise(before, &mix, &whole(2), None, lost);
    let after = fragmentation(room(7_000, 7_000, &[30, 0, 0, 100]), &mix);
    assert_eq!(after / SIGHTING, 160);
    assert_eq!(rise, 100 * SIGHTING.cast_signed());
}

#[test]
fn what_does_not_fit_has_no_place() {
    let mix = mix(&[whole(1)]);
    let free = room(2_000, 2_000, &[100, 50]);
    let refused = [
        whole(2),
        Ask { cpus_milli: 2_001, ..whole(1) },
        Ask { memory_mib: 2_001, ..whole(1) },
        Ask { models: !1, ..part(10) },
    ];
    for ask in refused {
        assert_eq!(best_accelerator(free, &mix, &ask, 0), None, "{ask:?}");
    }
    assert!(
        free.fits(&whole(1))
            && free.fits(&part(100))
            && free.fits(&Ask { gpus: None, models: 0, ..whole(1) })
    );
}

#[test]
fn a_pair_keeps_fractions_off_its_last_two_accelerators() {
    let mix = mix(&[whole(2), part(30)]);
    let pair = room(8_000, 8_000, &[100, 100]);
    let single = room(8_000, 8_000, &[100]);
    let rise =
        |room| best_accelerator(room, &mix, &part(30), fragmentation(room, &mix)).expect("it fits").rise;
    assert!(rise(single) < rise(pair));
}
