//! The one loop: wait for anything, hand it to the engine, execute what comes out. It decides nothing.
#![deny(clippy::wildcard_enum_match_arm)]

use anabranch_engine::Input;
use anabranch_engine::limits::SLEEP_MIN;
use anabranch_engine::time::Duration;
use anabranch_net::Network;
use async_channel::Receiver;
use futures::{FutureExt as _, pin_mut, select};

use crate::driver::spawn::Alarm;
use crate::replica::{Order, Replica};

pub(crate) mod clock;
pub(crate) mod spawn;
pub(crate) mod worker;

/// Turns taken before everything else on this thread (the connections, in a browser the page) gets its turn.
const TURNS_IN_A_ROW_MAX: usize = 32;

/// How often the clocks are compared. Timers stand still while the machine sleeps; this is how long it takes at most until it
/// is noticed that it did.
const LOOK_AT_CLOCKS_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether the store is still where it was opened. A commit looks as well.
const STORE_CHECKED_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// Drives the network and the clock until the replica is closed and its last orders are executed.
pub(crate) async fn drive(replica: &Replica, network: &mut Network, orders: &Receiver<Order>) {
    let (mut alarm, mut look) = (Alarm::new(), Alarm::new());
    let mut seen = replica.clock().now();
    let every = || Box::pin(spawn::sleep(STORE_CHECKED_EVERY)).fuse();
    let mut check = every();
    for turn in 1_usize.. {
        if turn.is_multiple_of(TURNS_IN_A_ROW_MAX) {
            spawn::yield_now().await;
        }
        alarm.set(replica.sleep_until(), replica.clock());
        look.set(Some(seen.mono + LOOK_AT_CLOCKS_EVERY), replica.clock());
        let news = {
            let order = orders.recv().fuse();
            let input = network.next().fuse();
            let ring = alarm.ring().fuse();
            let looked = look.ring().fuse();
            pin_mut!(order, input, ring, looked);
            select! {
                order = order => News::Order(order.ok()),
                input = input => News::Input(input),
                () = ring => News::Input(Input::Timeout),
                () = looked => News::Clocks,
                () = check => News::Check,
            }
        };
        match news {
            News::Input(input) => replica.handle_last(input),
            News::Clocks => {
                let now = replica.clock().now();
                if now.slept_since(&seen) >= SLEEP_MIN {
                    replica.handle(Input::Timeout);
                }
                seen = now;
            }
            News::Order(Some(order)) => execute(order, network),
            News::Order(None) => return,
            News::Check => {
                replica.check_store();
                check = every();
            }
        }
        // A turn's orders are executed together, so that the network can send them together.
        while let Ok(order) = orders.try_recv() {
            execute(order, network);
        }
        replica.resume();
    }
}

enum News {
    Input(Input),
    /// It is time to compare the clocks.
    Clocks,
    Order(Option<Order>),
    /// It is time to look after the store.
    Check,
}

fn execute(order: Order, network: &mut Network) {
    match order {
        Order::Network(command) => network.execute(command),
        Order::Wake => {}
    }
}
