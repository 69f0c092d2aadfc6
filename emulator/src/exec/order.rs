//! Which accesses order others: a strong store or an atomic publishes what came before it, a strong load takes over.

use super::access::Target;
use super::block::Block;
use super::regs::lanes;
use super::warp::Warp;
use crate::ptx::types::Space;

impl Block<'_> {
    /// A strong store or an atomic publishes: this block's earlier accesses are ordered before whoever takes it over.
    pub(super) fn release_at(&mut self, w: &Warp, t: &Target, m: u32, release: bool) {
        let checks = self.g.config.checks;
        match t.space {
            Space::Shared if checks.shared_races => {
                for l in lanes(m) {
                    let entry = self.atomic_clocks.entry(t.offsets[l] as u32).or_default();
                    self.clocks.release(w.place.warp as usize, entry);
                }
            }
            Space::Global | Space::Generic if checks.global_races && (release || self.fenced) => {
                self.publish_unfenced();
                for l in lanes(m) {
                    self.g.ordering.release(t.offsets[l], self.index);
                }
            }
            _ => {}
        }
    }

    /// The counterpart of [`Self::release_at`]. Other blocks run concurrently: release is noted before the access,
    /// acquire after it, so that what the access saw is never noted too late.
    pub(super) fn acquire_at(&mut self, w: &Warp, t: &Target, m: u32) {
        let checks = self.g.config.checks;
        if t.space != Space::Shared {
            self.polls = self.polls.saturating_add(1);
        }
        match t.space {
            Space::Shared if checks.shared_races => {
                for l in lanes(m) {
                    if let Some(entry) = self.atomic_clocks.get(&(t.offsets[l] as u32)) {
                        self.clocks.acquire(w.place.warp as usize, entry);
                    }
                }
            }
            Space::Global | Space::Generic if checks.global_races => {
                self.took_over(w);
                for l in lanes(m) {
                    self.g.ordering.acquire(t.offsets[l], self.index);
                }
            }
            _ => {}
        }
    }
}
