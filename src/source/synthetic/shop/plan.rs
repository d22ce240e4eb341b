//! When things happen: the calendar of a history and the releases of the services.

use super::out::{DAY, HOUR, MINUTE};
use super::{BROKEN_VERSION, Shop};
use crate::source::synthetic::rng::Rng;

/// 2026-03-10T00:00:00Z, a Tuesday, in milliseconds since 1970.
const START: i64 = 20_522 * DAY;
/// While a release is rolled out, the old version and the new one both serve.
const ROLLOUT: i64 = 6 * MINUTE;

/// Who writes. Several of them are released again and again; one release is the broken one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Checkout,
    Billing,
    Warehouse,
    Support,
    Storefront,
    Catalog,
    Backoffice,
}

impl Service {
    pub(super) fn name(self) -> &'static str {
        match self {
            Service::Checkout => "checkout",
            Service::Billing => "billing",
            Service::Warehouse => "warehouse",
            Service::Support => "support",
            Service::Storefront => "storefront",
            Service::Catalog => "catalog",
            Service::Backoffice => "backoffice",
        }
    }

    /// Its versions in order: the sevenths of the history that are over when it is released, the minute of the day, the version.
    fn releases(self) -> &'static [(u32, i64, &'static str)] {
        match self {
            Service::Checkout => &[
                (0, 0, "v2.13.4"),
                (1, 9 * 60 + 12, "v2.13.5"),
                (2, 15 * 60 + 41, BROKEN_VERSION),
            ],
            Service::Billing => &[
                (0, 0, "v1.8.2"),
                (1, 13 * 60 + 5, "v1.9.0"),
                (2, 16 * 60 + 20, "v1.9.1"),
                (5, 10 * 60, "v1.9.2"),
            ],
            Service::Warehouse => &[
                (0, 0, "v5.2.0"),
                (2, 9 * 60 + 10, "v5.3.0"),
                (3, 8 * 60 + 30, "v5.3.1"),
                (4, 14 * 60 + 55, "v5.4.0"),
            ],
            Service::Support => &[(0, 0, "2026.10.2"), (2, 11 * 60, "2026.11.0")],
            Service::Storefront => &[
                (0, 0, "v3.1.7"),
                (2, 11 * 60 + 45, "v3.2.0"),
                (5, 17 * 60 + 2, "v3.2.1"),
            ],
            Service::Catalog => &[(0, 0, "v0.31.0"), (3, 12 * 60, "v0.32.0")],
            Service::Backoffice => &[(0, 0, "v0.9.3")],
        }
    }
}

/// The calendar of one history, in milliseconds since 1970, UTC.
pub(super) struct Plan {
    /// Position 0.
    pub(super) start: i64,
    /// Nothing happens from here on: half past five on the last day, when there is much under way.
    pub(super) end: i64,
    pub(super) days: u32,
    /// When the broken release begins to roll out.
    pub(super) release: i64,
    /// When the flash happens.
    pub(super) flash: i64,
    /// From when on the next parcel's stock is overwritten.
    pub(super) lost_update: i64,
    /// When an account of the ledger gets another number.
    pub(super) renumber: i64,
}

impl Plan {
    pub(super) fn of(shop: &Shop) -> Plan {
        let at = |sevenths, minute| START + moment(shop.days, sevenths, minute);
        let (sevenths, minute, _) = Service::Checkout.releases()[2];
        Plan {
            start: START,
            end: START + i64::from(shop.days) * DAY - 6 * HOUR - 30 * MINUTE,
            days: shop.days,
            release: at(sevenths, minute),
            flash: at(4, 11 * 60 + 20),
            lost_update: at(3, 10 * 60 + 5),
            renumber: at(1, 15 * 60 + 33),
        }
    }

    /// The version of a service that serves at a time.
    pub(super) fn version(&self, service: Service, time: i64, rng: &mut Rng) -> &'static str {
        let mut serving = "";
        for (sevenths, minute, version) in service.releases() {
            let since = time - self.start - moment(self.days, *sevenths, *minute);
            let first = serving.is_empty();
            if first || since >= ROLLOUT || (since >= 0 && rng.chance(500)) {
                serving = version;
            }
        }
        serving
    }

    /// When the visits of a day begin: few at night, most at noon and in the evening; ascending.
    pub(super) fn visits(&self, day: u32, count: u32, rng: &mut Rng) -> Vec<i64> {
        const WEIGHTS: [u64; 24] = [
            3, 2, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9, 9, 8, 7, 7, 7, 8, 9, 10, 10, 8, 6, 4,
        ];
        let total: u64 = WEIGHTS.iter().sum();
        let mut times: Vec<i64> = (0..count)
            .map(|_| {
                let mut drawn = rng.below(total);
                let mut hour = 0;
                for weight in WEIGHTS {
                    if drawn < weight {
                        break;
                    }
                    drawn -= weight;
                    hour += 1;
                }
                self.start + i64::from(day) * DAY + hour * HOUR + rng.between(0, HOUR - 1)
            })
            .collect();
        times.sort_unstable();
        times
    }
}

fn moment(days: u32, sevenths: u32, minute: i64) -> i64 {
    i64::from(sevenths * days / 7) * DAY + minute * MINUTE
}
