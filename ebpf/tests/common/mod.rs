//! common loads the programs for the world of the fixtures, or says why it cannot.

use std::env;
use std::fs;

use quiclane_ebpf::{Budgets, Capacity, Settings, Steering, SteeringError};
use quiclane_wire::fixtures::{LISTENERS, LIVE_EPOCH, LIVE_WORKERS, world};

/// Another object than the committed one, for a fresh build that is not of the recorded toolchain.
const OBJECT: &str = "QUICLANE_EBPF_OBJECT";

/// The programs in the world of the fixtures, without limits. `None`, and a line that says so, if
/// this process may not load them; with CI=true that is a failure.
pub fn steering(test: &str) -> Option<Steering> {
    let capacity = Capacity { listeners: 8, prefixes: 1_024 };
    let loaded = match env::var_os(OBJECT) {
        Some(path) => Steering::load_object(&fs::read(path).unwrap(), &capacity),
        None => Steering::load(&capacity),
    };
    let mut steering = match loaded {
        Ok(steering) => steering,
        Err(error @ SteeringError::NotPermitted { .. }) => {
            assert!(env::var("CI").as_deref() != Ok("true"), "{error}");
            println!("skipped: {test}: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    steering.apply(&settings()).unwrap();
    steering.set_epochs(&world().2).unwrap();
    for listener in LISTENERS {
        steering.listen(listener, false).unwrap();
    }
    Some(steering)
}

/// The settings of the world of the fixtures.
pub fn settings() -> Settings {
    let (layout, spread_key, _) = world();
    Settings {
        layout,
        spread_key,
        live_epoch: LIVE_EPOCH,
        workers: LIVE_WORKERS,
        move_to_cores: false,
        budgets: Budgets::UNLIMITED,
    }
}
