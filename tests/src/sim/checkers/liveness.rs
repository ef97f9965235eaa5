//! I11 liveness: once the network is fair, everyone agrees within a bound, and no run waits for ever for one that somebody
//! has.

use crate::sim::workload::LOOK_EVERY;
use crate::sim::world::World;
use crate::sim::{CONVERGE_WITHIN, Kind, SECONDS};

use super::convergence;

/// The checker's name.
pub const CHECKER: &str = "I11 liveness";

/// Lets the world go on until everyone agrees. False if that takes too long, or something else failed.
pub fn agree(world: &mut World) -> bool {
    let mut missing = String::new();
    let agreed = world.run_while_not(LOOK_EVERY, CONVERGE_WITHIN, |world| match convergence::settled(world) {
        Ok(()) => true,
        Err(text) => {
            missing = text;
            false
        }
    });
    if !agreed {
        world.fail(Kind::Liveness, CHECKER, too_late(&missing));
    }
    world.failure.is_none()
}

fn too_late(missing: &str) -> String {
    format!("after {} s of a fair network: {missing}", CONVERGE_WITHIN / SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::trace::Trace;
    use crate::sim::{Options, Plan};

    #[test]
    fn a_world_in_which_one_never_comes_up_does_not_agree() {
        let options = Options { replicas: 2, spaces: 1, ..Options::calm(1) };
        let mut world = World::new(options, Trace::new(false, false));
        world.follow(Plan::default());
        world.want_spaces();
        world.start(0);
        assert!(!agree(&mut world));
        let failure = world.failure.expect("one of two does not run");
        assert_eq!((failure.kind, failure.checker), (Kind::Liveness, CHECKER));
    }
}
