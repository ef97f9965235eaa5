//! What holds of dialing, whatever is learned and whatever fails.

use alloc::format;

use super::*;
use crate::limits::{
    BACKOFF_EARLY_FOR, BACKOFF_MAX_EARLY, DIAL_TIMEOUT, DIALS_BURST, DIALS_MAX, DIALS_PER_SECOND, DIALS_UNPROVEN_MAX,
    NEARBY_DIALS_BURST,
};
use crate::time::Duration;

const A: DeviceId = DeviceId([1; 32]);

fn due(dialer: &mut Dialer, now: Timestamp) -> usize {
    dialed(dialer, now).len()
}

fn dialed(dialer: &mut Dialer, now: Timestamp) -> Vec<String> {
    dialer.due(now, 0, Mutated::default()).into_iter().map(|(address, _)| address).collect()
}

fn device(n: u32) -> DeviceId {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    DeviceId(bytes)
}

/// A book of somebody who wants a session with all of these.
fn wanting(devices: impl IntoIterator<Item = DeviceId>) -> Dialer {
    let mut dialer = Dialer::default();
    dialer.want(devices.into_iter().collect());
    dialer
}

fn learn(dialer: &mut Dialer, address: &str, peer: DeviceId, source: Source) -> bool {
    dialer.learn(address, Some(peer), source, Timestamp(0)).expect("short")
}

/// Goes through some time with dials that all end at once, in one way. Gives the moments at which which address was dialed.
fn dials_until(
    dialer: &mut Dialer,
    until: Timestamp,
    end: impl Fn(&mut Dialer, &str, Timestamp),
) -> Vec<(Timestamp, String)> {
    let mut dials = Vec::new();
    let mut now = Timestamp(0);
    while now <= until {
        for address in dialed(dialer, now) {
            end(dialer, &address, now);
            dials.push((now, address));
        }
        let Some(next) = dialer.deadline() else { break };
        assert!(next > now || due(dialer, now) > 0, "nothing is due at {now}");
        now = next.max(now);
    }
    dials
}

fn refuse(dialer: &mut Dialer, address: &str, now: Timestamp) {
    dialer.failed(address, "refused", now, 0);
}

#[test]
fn waits_grow_to_five_seconds_and_after_ten_minutes_to_sixty() {
    let mut dialer = wanting([A]);
    let mut now = Timestamp(0);
    dialer.learn("a", Some(A), Source::Itself, now).expect("short");
    let mut longest = [0, 0];
    for _ in 0..400 {
        now = dialer.deadline().expect("one target");
        assert_eq!(due(&mut dialer, now), 1);
        assert_eq!(due(&mut dialer, now), 0, "not again while dialing");
        dialer.failed("a", "refused", now, u32::MAX);
        let wait = dialer.deadline().expect("one target") - now;
        longest[usize::from(now.0 > BACKOFF_EARLY_FOR.0)] =
            wait.0.max(longest[usize::from(now.0 > BACKOFF_EARLY_FOR.0)]);
    }
    assert!((4_900_000..=5_000_000).contains(&longest[0]), "{longest:?}");
    assert!((59_000_000..=60_000_000).contains(&longest[1]), "{longest:?}");
}

/// What failed long before counted, so that after a short outage it was waited for as after a long one.
#[test]
fn an_outage_begins_when_the_last_session_ends() {
    let mut dialer = wanting([A]);
    let mut now = Timestamp(0);
    dialer.learn("a", Some(A), Source::Itself, now).expect("short");
    dialer.connected("elsewhere", A, false);
    dialer.authenticated(&A);
    dialer.failed("a", "refused", now, u32::MAX);
    now = now + Duration(2 * BACKOFF_EARLY_FOR.0);
    dialer.disconnected(&A, true, "reset", now, u32::MAX);
    for _ in 0..20 {
        let next = dialer.deadline().expect("one target");
        assert!(next - now <= BACKOFF_MAX_EARLY, "{} s", (next - now).0 / 1_000_000);
        now = next;
        assert_eq!(due(&mut dialer, now), 1);
        dialer.failed("a", "refused", now, u32::MAX);
    }
    // Sessions that are of no use end none.
    now = now + BACKOFF_EARLY_FOR;
    dialer.disconnected(&A, false, "no shared space", now, u32::MAX);
    let next = dialer.deadline().expect("one target");
    assert!(next - now > BACKOFF_MAX_EARLY);
}

#[test]
fn a_device_keeps_its_newest_addresses() {
    let mut dialer = Dialer::default();
    for i in 0..20 {
        dialer.learn(&format!("address {i:02}"), Some(A), Source::Itself, Timestamp(i)).expect("short");
    }
    assert_eq!(dialer.addresses(&A).len(), ADDRESSES_PER_DEVICE_MAX);
}

#[test]
fn what_others_say_takes_no_place_of_what_was_seen() {
    const B: DeviceId = DeviceId([2; 32]);
    let mut dialer = Dialer::default();
    let now = Timestamp(0);
    assert_eq!(dialer.learn("home of a", Some(A), Source::Itself, now), Ok(true));
    assert_eq!(dialer.learn("home of a", Some(B), Source::Others, now), Ok(false));
    assert_eq!(dialer.addresses(&A), ["home of a"]);
    dialer.connected("home of a", A, true);
    assert_eq!(dialer.learn("home of a", Some(B), Source::Itself, now), Ok(false));
    let news = (0..100).filter(|i| dialer.learn(&format!("nowhere {i}"), Some(A), Source::Others, now).expect("short"));
    assert_eq!(news.count(), ADDRESSES_PER_DEVICE_MAX - 1);
    assert!(dialer.addresses(&A).contains(&String::from("home of a")));
    // What was tried and failed gives way.
    dialer.failed("nowhere 3", "refused", now, 0);
    assert_eq!(dialer.learn("elsewhere", Some(A), Source::Others, now), Ok(true));
    assert!(!dialer.addresses(&A).contains(&String::from("nowhere 3")));
}

#[test]
fn what_a_device_says_takes_the_place_of_where_it_was_missed() {
    let mut dialer = Dialer::default();
    let now = Timestamp(0);
    let said = |texts: &[&str]| texts.iter().map(|text| String::from(*text)).collect::<Vec<_>>();
    dialer.learn("ticket", None, Source::Ticket, now).expect("short");
    dialer.learn("given", Some(A), Source::Given, now).expect("short");
    for address in ["forwarded", "old network", "hearsay", "from afar"] {
        dialer.learn(address, Some(A), Source::Itself, now).expect("short");
    }
    for address in ["ticket", "forwarded", "old network"] {
        dialer.connected(address, A, true);
    }
    dialer.failed("old network", "timed out", now, 0);
    dialer.failed("ticket", "timed out", now, 0);
    dialer.failed("given", "timed out", now, 0);
    dialer.authenticated(&A);
    dialer.keep_only(&A, &said(&["new network"]), |address| address == "from afar");
    let mut known = dialer.addresses(&A);
    known.sort();
    assert_eq!(known, ["forwarded", "from afar", "given"]);
    dialer.forget_device(&A);
    assert_eq!(dialer.addresses(&A), [""; 0]);
}

// A member that said of another's address that it is its own had it dialed, and the session with the other replaced.
#[test]
fn disputed_address_is_dialed_unless_all_who_claim_it_are_connected() {
    let dialed = |claims: u32, connected: &[u32]| {
        let mut dialer = Dialer::default();
        for n in 1..=claims {
            learn(&mut dialer, "a", device(n), Source::Itself);
        }
        dialer.leave_alone(connected.iter().map(|n| device(*n)).collect());
        due(&mut dialer, Timestamp(0))
    };
    assert_eq!(dialed(2, &[1, 2]), 0);
    assert_eq!(dialed(2, &[1]), 1);
    assert_eq!(dialed(2, &[2]), 1);
    // Not all of so many are known.
    assert_eq!(dialed(9, &[1, 2, 3, 4, 5, 6, 7, 8, 9]), 1);
}

#[test]
fn after_sleep_everything_is_due_as_at_the_beginning_of_an_outage() {
    let mut dialer = wanting([A]);
    let mut now = Timestamp(0);
    dialer.learn("a", Some(A), Source::Itself, now).expect("short");
    for _ in 0..400 {
        now = dialer.deadline().expect("one target");
        due(&mut dialer, now);
        dialer.failed("a", "refused", now, u32::MAX);
    }
    assert_eq!(due(&mut dialer, now), 0);
    dialer.wake(now);
    assert_eq!(due(&mut dialer, now), 1);
    dialer.failed("a", "unreachable", now, u32::MAX);
    let next = dialer.deadline().expect("one target");
    assert!(next - now <= BACKOFF_MAX_EARLY, "{} s", (next - now).0 / 1_000_000);
    // A dial that hangs from before is not waited for.
    assert_eq!(due(&mut dialer, next), 1);
    dialer.wake(next);
    assert_eq!(due(&mut dialer, next), 1);
}

#[test]
fn an_overlong_address_is_refused_by_number() {
    let error = Dialer::default().learn(&"x".repeat(300), None, Source::Given, Timestamp(0)).expect_err("300 bytes");
    assert!(format!("{error}").contains("300 bytes, limit 256"));
}

#[test]
fn devices_take_turns_and_each_has_one_dial_at_a_time() {
    let mut dialer = wanting((0..3).map(device));
    for (n, addresses) in [(0, 8), (1, 8), (2, 1)] {
        for i in 0..addresses {
            learn(&mut dialer, &format!("{n} at {i}"), device(n), Source::Others);
        }
    }
    assert_eq!(dialed(&mut dialer, Timestamp(0)), ["0 at 0", "1 at 0", "2 at 0"]);
    assert_eq!(due(&mut dialer, Timestamp(1)), 0);
    refuse(&mut dialer, "1 at 0", Timestamp(1));
    assert_eq!(dialed(&mut dialer, Timestamp(1)), ["1 at 1"], "the next of the device whose dial has ended");
    dialer.connected("0 at 0", device(0), true);
    dialer.leave_alone([device(0)].into());
    assert_eq!(due(&mut dialer, Timestamp(2)), 0, "there is a session");
}

#[test]
fn address_where_a_device_was_met_comes_before_those_where_it_was_not() {
    let mut dialer = wanting([A]);
    for address in ["a", "b", "c"] {
        learn(&mut dialer, address, A, Source::Itself);
    }
    dialer.connected("c", A, true);
    assert_eq!(dialed(&mut dialer, Timestamp(0)), ["c"]);
}

// 32 dials that never end were all that there were, and every other one counted as failed.
#[test]
fn addresses_that_never_answer_leave_places_to_those_where_somebody_was_met() {
    let mut dialer = wanting((0..500).map(device));
    for n in 1..500 {
        learn(&mut dialer, &format!("tarpit {n}"), device(n), Source::Others);
    }
    assert_eq!(due(&mut dialer, Timestamp(0)), DIALS_UNPROVEN_MAX);
    learn(&mut dialer, "home", device(0), Source::Others);
    dialer.connected("home", device(0), true);
    assert_eq!(dialed(&mut dialer, Timestamp(1)), ["home"]);
    for n in 0..100 {
        dialer.learn(&format!("given {n}"), None, Source::Given, Timestamp(1)).expect("short");
    }
    due(&mut dialer, Timestamp(2));
    assert_eq!(dialer.dialed.len(), DIALS_MAX);
    // Those that do not answer make room.
    let later = Timestamp(0) + DIAL_TIMEOUT;
    assert_eq!(dialer.deadline(), Some(later));
    assert_eq!(due(&mut dialer, later), DIALS_UNPROVEN_MAX);
    assert_eq!(dialer.dialed.len(), DIALS_MAX);
}

#[test]
fn member_that_comes_back_is_found_among_very_many_that_were_made_up() {
    let mut dialer = wanting((0..1_000).map(device));
    for n in 1..1_000 {
        for i in 0..4 {
            learn(&mut dialer, &format!("{n} at {i}"), device(n), Source::Others);
        }
    }
    learn(&mut dialer, "home", device(0), Source::Itself);
    dialer.connected("home", device(0), true);
    let dials = dials_until(&mut dialer, Timestamp(60_000_000), refuse);
    let homeward: Vec<_> = dials.iter().filter(|(_, address)| address == "home").map(|(at, _)| *at).collect();
    let longest = homeward.windows(2).map(|pair| pair[1] - pair[0]).max().expect("several");
    assert!(longest <= BACKOFF_MAX_EARLY, "{} ms", longest.as_millis());
}

// Three hundred members that were away kept the processor busy, because every dial that failed went through all of them.
#[test]
fn three_hundred_absent_members_cost_a_bounded_number_of_dials_and_of_steps() {
    let mut dialer = wanting((0..300).map(device));
    for n in 0..300 {
        for i in 0..8 {
            learn(&mut dialer, &format!("{n} at {i}"), device(n), Source::Itself);
        }
    }
    let (before, minute) = (dialer.queue.moves, 60);
    let dials = dials_until(&mut dialer, Timestamp(minute * 1_000_000), refuse).len() as u64;
    assert!(dials <= DIALS_BURST + DIALS_PER_SECOND * minute, "{dials} dials");
    let steps = dialer.queue.moves - before;
    assert!(steps <= 2_400 + 6 * dials, "{steps} steps for {dials} dials");
    // Whom one is connected with is told with every event, and costs what has changed.
    let before = dialer.queue.moves;
    dialer.leave_alone([device(7)].into());
    dialer.leave_alone([device(7)].into());
    assert_eq!(dialer.queue.moves - before, 8);
}

#[test]
fn dial_that_was_put_off_for_a_limit_of_ours_is_no_failure() {
    let mut dialer = wanting([A]);
    learn(&mut dialer, "a", A, Source::Itself);
    let dials = dials_until(&mut dialer, Timestamp(100_000_000), Dialer::put_off);
    assert!((90..=101).contains(&dials.len()), "{} dials", dials.len());
    assert_eq!((dialer.last_failure(&A), dialer.longest_waits()), (None, 0));
}

#[test]
fn address_in_a_network_of_ours_that_others_tell_of_is_dialed_once_a_minute_and_not_told_on() {
    let minutes = 30;
    let mut dialer = wanting((0..100).map(device));
    for n in 0..100 {
        learn(&mut dialer, &format!("near {n}"), device(n), Source::Nearby);
    }
    let dials = dials_until(&mut dialer, Timestamp(minutes * 60_000_000), refuse).len() as u64;
    assert!(dials <= NEARBY_DIALS_BURST + minutes, "{dials} dials");
    let mut dialer = wanting([A]);
    learn(&mut dialer, "near", A, Source::Nearby);
    assert_eq!(dials_until(&mut dialer, Timestamp(600_000_000), refuse).len(), 11);
    assert_eq!((dialer.addresses(&A).len(), dialer.addresses_to_tell(&A).len()), (1, 0));
    // Once it says so itself it is an address like any other.
    assert!(learn(&mut dialer, "near", A, Source::Itself));
    assert_eq!(dialer.addresses_to_tell(&A), ["near"]);
}

#[test]
fn addresses_where_nobody_was_met_are_bounded_in_all_and_those_that_failed_give_way() {
    let mut dialer = Dialer::default();
    for n in 0..ADDRESSES_UNPROVEN_MAX as u32 + 10 {
        learn(&mut dialer, &format!("{n}"), device(n), Source::Others);
    }
    assert_eq!(dialer.len(), ADDRESSES_UNPROVEN_MAX);
    refuse(&mut dialer, "17", Timestamp(0));
    assert!(learn(&mut dialer, "news", A, Source::Others));
    assert!(!learn(&mut dialer, "more news", A, Source::Others));
    assert_eq!((dialer.len(), dialer.knows(&device(17))), (ADDRESSES_UNPROVEN_MAX, false));
    // What a device says of itself comes before what is said of others.
    assert!(learn(&mut dialer, "by itself", device(5), Source::Itself));
    dialer.learn("given", None, Source::Given, Timestamp(0)).expect("short");
    assert_eq!((dialer.unproven_len(), dialer.len()), (ADDRESSES_UNPROVEN_MAX, ADDRESSES_UNPROVEN_MAX + 1));
}

#[test]
fn nothing_is_left_of_a_device_that_is_forgotten_while_it_is_dialed() {
    let mut dialer = wanting([A]);
    for address in ["a", "b"] {
        learn(&mut dialer, address, A, Source::Itself);
        learn(&mut dialer, address, device(9), Source::Itself);
    }
    due(&mut dialer, Timestamp(0));
    dialer.forget_device(&A);
    refuse(&mut dialer, "a", Timestamp(1));
    dialer.due(Timestamp(0) + DIAL_TIMEOUT, 0, Mutated::default());
    let Dialer { targets, by_address, by_device, by_claim, unproven, dialed, .. } = &dialer;
    assert!(targets.is_empty() && by_address.is_empty() && by_device.is_empty() && by_claim.is_empty());
    assert!(unproven.is_empty() && dialed.is_empty());
    assert_eq!(dialer.deadline(), None);
}
