//! The model within bounds that take seconds; the program `simulator` goes through the wide ones.

use super::explore_some;

#[test]
fn every_invariant_holds_in_every_state() {
    for explored in explore_some() {
        println!("{explored:?}");
        assert!(explored.is_exhausted(), "{explored:#?}");
    }
}
