//! How a seed's options become its plan.

use super::{Act, Crash, Plan, Step};
use crate::sim::SECONDS;
use crate::sim::ailments::Ailment;
use crate::sim::clock::{ClockFault, FAIR, YEAR_S};
use crate::sim::damage::Damage;
use crate::sim::dice::{Dice, Stream};
use crate::sim::network::partition::Shape;
use crate::sim::options::Options;

impl Plan {
    /// Draws the plan that belongs to `options`.
    pub fn draw(options: &Options) -> Self {
        let mut plan = Self::default();
        let mut dice = Dice::new(options.seed, Stream::Plan);
        plan.add_workload(&mut dice, options);
        plan.add_crashes(&mut dice, options);
        plan.add_cuts(&mut dice, options);
        plan.add_lost_connections(&mut dice, options);
        plan.add_ailments(&mut dice, options);
        plan.add_clock_faults(&mut dice, options);
        plan.add_disk_faults(&mut dice, options);
        plan.add_copies(&mut dice, options);
        plan.scatter(&mut dice, options.chaos, options.steps / 15, |dice| Act::Draft(dice.index(options.replicas)));
        plan.add_blocks(&mut dice, options);
        plan.scatter(&mut dice, options.chaos, options.steps / 8, |dice| Act::EditInTab(dice.index(options.replicas)));
        plan.steps.extend(options.byzantine.iter().flat_map(|byzantine| byzantine.plan(options)));
        plan.steps.sort_by_key(|step| step.at);
        plan
    }

    fn add(&mut self, dice: &mut Dice, at: u64, act: Act) {
        self.steps.push(Step { at, act, salt: dice.any() });
    }

    /// Adds so many acts at times of the chaos.
    fn scatter(&mut self, dice: &mut Dice, end: u64, count: usize, mut act: impl FnMut(&mut Dice) -> Act) {
        for _ in 0..count {
            let (at, act) = (dice.below(end), act(dice));
            self.add(dice, at, act);
        }
    }

    fn add_workload(&mut self, dice: &mut Dice, options: &Options) {
        let (end, replicas) = (options.chaos, options.replicas);
        for joiner in replicas - options.late..replicas {
            let at = dice.between(end / 10, end / 2);
            self.add(dice, at, Act::Join(joiner));
        }
        self.scatter(dice, end, options.steps, |dice| {
            let replica = dice.index(replicas);
            match dice.below(100) {
                0..70 => Act::Edit(replica),
                70..80 => Act::NewDocument(replica),
                80..85 => Act::Close(replica),
                85..90 => Act::ReadPast(replica),
                90..95 => Act::ReadFeed(replica),
                _ => Act::WaitSynced(replica),
            }
        });
    }

    fn add_blocks(&mut self, dice: &mut Dice, options: &Options) {
        let (end, replicas) = (options.chaos, options.replicas);
        if replicas < 2 || !dice.percent(15) {
            return;
        }
        for _ in 0..dice.between(1, 3) {
            let (replica, other) = two(dice, replicas);
            let at = dice.below(end);
            let until = at + dice.heavy(SECONDS, 10 * SECONDS, 300, end);
            self.add(dice, at, Act::Block { replica, other });
            let asks = dice.between(at, end - 1);
            self.add(dice, asks, Act::MeasureUsage(replica));
            // One that is not taken back in time is when the chaos is over.
            if until < end {
                self.add(dice, until, Act::Unblock { replica, other });
            }
        }
    }

    fn add_crashes(&mut self, dice: &mut Dice, options: &Options) {
        let faults = &options.faults;
        self.scatter(dice, options.chaos, faults.crashes, |dice| {
            let how = if dice.percent(faults.mid_request) {
                Crash::MidRequest
            } else if dice.percent(faults.while_applying) {
                Crash::WhileApplying
            } else if dice.percent(faults.power_cuts) {
                Crash::PowerCut
            } else {
                Crash::Kill
            };
            let down = dice.heavy(SECONDS / 100, 3 * SECONDS, 200, 60 * SECONDS);
            Act::Crash { replica: dice.index(options.replicas), how, down }
        });
    }

    fn add_cuts(&mut self, dice: &mut Dice, options: &Options) {
        let (end, replicas) = (options.chaos, options.replicas);
        let faults = &options.faults;
        let shapes = [
            (Shape::Split, faults.splits),
            (Shape::Bridge, faults.bridges),
            (Shape::Ring, faults.rings),
            (Shape::OneWay, faults.one_way),
        ];
        for (shape, count) in shapes {
            self.scatter(dice, end, count, |dice| {
                let (order, first) = places(dice, replicas);
                let length = dice.heavy(SECONDS / 20, 10 * SECONDS, 300, end.max(11 * SECONDS));
                Act::Cut { shape, pairs: shape.pairs(&order, first), length }
            });
        }
        for _ in 0..faults.flaps {
            let (order, first) = places(dice, replicas);
            let pairs = Shape::Flap.pairs(&order, first);
            let mut at = dice.below(end);
            let longest = *dice.pick(&[SECONDS, 2 * SECONDS, 20 * SECONDS, 300 * SECONDS]).expect("not empty");
            for _ in 0..dice.between(3, 10) {
                let length = dice.between(SECONDS / 20, longest);
                if at >= end {
                    break;
                }
                self.add(dice, at, Act::Cut { shape: Shape::Flap, pairs: pairs.clone(), length });
                at += length + dice.between(SECONDS / 20, longest);
            }
        }
    }

    fn add_lost_connections(&mut self, dice: &mut Dice, options: &Options) {
        let (end, replicas) = (options.chaos, options.replicas);
        let faults = &options.faults;
        self.scatter(dice, end, faults.resets, |dice| {
            let (a, b) = two(dice, replicas);
            Act::Reset(a, b)
        });
        self.scatter(dice, end, faults.half_opens, |dice| {
            let (gone, other) = two(dice, replicas);
            Act::HalfOpen { gone, other }
        });
        self.scatter(dice, end, faults.cut_frames, |dice| {
            let (a, b) = two(dice, replicas);
            Act::CutFrame { a, b, after: dice.below(20) }
        });
    }

    fn add_ailments(&mut self, dice: &mut Dice, options: &Options) {
        let faults = &options.faults;
        let minutes = 60 * SECONDS;
        let ailments = [
            (Ailment::SlowLinks, faults.slow_peers, minutes, 5 * minutes),
            (Ailment::DoesNotRead, faults.unread, minutes, 5 * minutes),
            (Ailment::SlowDisk, faults.slow_disks, minutes, 5 * minutes),
            (Ailment::Stopped, faults.stops, minutes / 2, 15 * minutes),
        ];
        for (ailment, count, usual, longest) in ailments {
            self.scatter(dice, options.chaos, count, |dice| {
                let length = dice.heavy(SECONDS / 2, usual, 300, longest);
                Act::Ail { replica: dice.index(options.replicas), ailment, length }
            });
        }
    }

    fn add_clock_faults(&mut self, dice: &mut Dice, options: &Options) {
        for _ in 0..options.faults.clocks {
            let replica = dice.index(options.replicas);
            let at = dice.below(options.chaos);
            let rate = if dice.percent(30) { 0 } else { dice.between(500, 2_000) };
            let (fault, cure) = match dice.below(5) {
                0 if dice.percent(30) => (ClockFault::WallReset, None),
                0 => (ClockFault::WallJump(dice.below(2 * YEAR_S as u64) as i64 - YEAR_S), None),
                1 => (ClockFault::WallRate(rate), Some(ClockFault::WallRate(FAIR))),
                2 => (ClockFault::MonoLeap(dice.heavy(SECONDS, 60 * SECONDS, 300, 86_400 * SECONDS)), None),
                _ => (ClockFault::MonoRate(rate), Some(ClockFault::MonoRate(FAIR))),
            };
            self.add(dice, at, Act::Clock { replica, fault });
            if let Some(fault) = cure.filter(|_| dice.percent(70)) {
                let at = at + dice.heavy(SECONDS, 30 * SECONDS, 200, 600 * SECONDS);
                if at < options.chaos {
                    self.add(dice, at, Act::Clock { replica, fault });
                }
            }
        }
    }

    fn add_disk_faults(&mut self, dice: &mut Dice, options: &Options) {
        let (end, replicas) = (options.chaos, options.replicas);
        let faults = &options.faults;
        self.scatter(dice, end, faults.full_disks, |dice| Act::FillDisk(dice.index(replicas)));
        self.scatter(dice, end, faults.broken_disks, |dice| Act::BreakDisk(dice.index(replicas)));
        self.scatter(dice, end, faults.second_processes, |dice| Act::SecondProcess(dice.index(replicas)));
        let damages = [
            (Damage::Rot, faults.rots),
            (Damage::Shortened, faults.short_files),
            (Damage::StrayWrite, faults.stray_writes),
            (Damage::LyingSyncs, faults.lying_disks),
        ];
        for (how, count) in damages {
            self.scatter(dice, end, count, |dice| Act::Damage { replica: dice.index(replicas), how });
        }
        for _ in 0..faults.lost_names {
            // Of a store that a salvage made, or of one that was there from the start.
            let (replica, a, b) = (dice.index(replicas), dice.below(end), dice.below(end));
            if dice.percent(60) {
                self.add(dice, a.min(b), Act::Damage { replica, how: Damage::Rot });
            }
            self.add(dice, a.max(b), Act::Damage { replica, how: Damage::LostName });
        }
    }
}

impl Plan {
    fn add_copies(&mut self, dice: &mut Dice, options: &Options) {
        let (end, replicas) = (options.chaos, options.replicas);
        self.scatter(dice, end, options.faults.leaves, |dice| Act::Leave(dice.index(replicas)));
        for _ in 0..options.faults.rollbacks {
            let replica = dice.index(replicas);
            let (backup, restore) = (dice.below(end), dice.below(end));
            self.add(dice, backup.min(restore), Act::Backup(replica));
            let down = dice.heavy(SECONDS / 100, 3 * SECONDS, 200, 60 * SECONDS);
            self.add(dice, backup.max(restore), Act::Restore { replica, down });
        }
        self.scatter(dice, end, options.faults.clones, |dice| {
            let ends = dice.percent(75).then(|| dice.between(SECONDS, end));
            Act::Clone { replica: dice.index(replicas), ends, renews: dice.percent(60) }
        });
        self.scatter(dice, end, options.faults.invitations, |dice| Act::InviteAgain(dice.index(replicas)));
        self.scatter(dice, end, options.faults.moves, |dice| Act::Move(dice.index(replicas)));
    }
}

/// Everyone in some order, and how many of them are in the first of two groups.
fn places(dice: &mut Dice, replicas: usize) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..replicas).collect();
    dice.shuffle(&mut order);
    (order, dice.between(1, replicas as u64 - 1) as usize)
}

/// Two different replicas (there are at least two).
fn two(dice: &mut Dice, replicas: usize) -> (usize, usize) {
    let a = dice.index(replicas);
    let b = (a + 1 + dice.index(replicas - 1)) % replicas;
    (a, b)
}
