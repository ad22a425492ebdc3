//! The store, from outside: the suite that every store passes, a model with random batches, damage, death, limits.

#[path = "store/crash.rs"]
mod crash;
#[path = "store/damage.rs"]
mod damage;
#[path = "store/dead.rs"]
mod dead;
#[path = "store/durability.rs"]
mod durability;
#[path = "store/kill.rs"]
mod kill;
#[path = "store/limits.rs"]
mod limits;
#[path = "store/migrate.rs"]
mod migrate;
#[path = "store/model.rs"]
mod model;
#[path = "store/suite.rs"]
mod suite;
#[path = "store/support.rs"]
mod support;
#[path = "store/week.rs"]
mod week;
#[path = "store/written.rs"]
mod written;

#[test]
fn sqlite_store_passes_the_suite() {
    suite::run(&|| Box::new(support::Threaded::new()));
}
