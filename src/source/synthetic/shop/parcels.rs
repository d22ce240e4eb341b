//! The log, continued: what the warehouse and the carrier write.

use std::io;

use super::life::{Event, Life, stamped};
use super::out::{Change, Val};
use super::plan::Service;
use super::world::{Order, Shipment, next, stock_at};

impl Shipment {
    /// Changes columns of the row.
    pub(super) fn update(&self, columns: Vec<(&'static str, Val, Val)>) -> Change {
        Change::update("shipments", vec![("id", self.id.into())], columns)
    }
}

impl Life<'_> {
    /// The order reaches the warehouse, as it should, or by the hand of somebody in support.
    pub(super) fn hand_over(
        &mut self,
        at: i64,
        order: &mut Order,
        by: Service,
    ) -> io::Result<bool> {
        let shipment = Shipment {
            id: next(&mut self.world.ids.shipment),
            status: "pending",
            created_at: at,
            tracking: None,
            shipped_at: None,
            delivered_at: None,
        };
        let stamp = self.commit(by, at, &[Change::insert("shipments", shipment.row(order))])?;
        order.shipment = Some(shipment);
        if by == Service::Support {
            self.found_again(order.id, stamp);
        }
        self.later(at, 60, 16 * 60, Event::Dispatch(order.id));
        Ok(false)
    }

    pub(super) fn dispatch(&mut self, at: i64, order: &mut Order) -> io::Result<bool> {
        let Some(mut shipment) = order.shipment.take() else {
            return Ok(false);
        };
        let first = order.lines.first().expect("an order has lines");
        let shelf = stock_at(first.product, order.warehouse);
        let read = self.world.stock[shelf].clone();
        let mut changes = vec![order.set_status(at, "shipped")];
        let tracking = format!("1Z{:010}", self.rng.below(10_000_000_000));
        changes.push(shipment.update(vec![
            ("status", "pending".into(), "dispatched".into()),
            ("tracking", Val::Null, tracking.as_str().into()),
            stamped("shipped_at", at),
        ]));
        shipment.status = "dispatched";
        shipment.tracking = Some(tracking);
        shipment.shipped_at = Some(at);
        for line in &order.lines {
            let stock = stock_at(line.product, order.warehouse);
            changes.push(self.world.move_stock(stock, -line.quantity, -line.quantity));
            let row = self
                .world
                .movement_row(stock, -line.quantity, "sale", Some(order.id), at);
            changes.push(Change::insert("stock_movements", row));
        }
        changes.extend(self.sold(at, order));
        let stamp = self.commit(Service::Warehouse, at, &changes)?;
        order.shipment = Some(shipment);
        self.later(at, 20 * 60, 60 * 60, Event::Deliver(order.id));
        self.overwrite_stock(stamp, shelf, read)?;
        Ok(false)
    }

    pub(super) fn deliver(&mut self, at: i64, order: &mut Order) -> io::Result<bool> {
        let Some(mut shipment) = order.shipment.take() else {
            return Ok(false);
        };
        let change = shipment.update(vec![
            ("status", "dispatched".into(), "delivered".into()),
            stamped("delivered_at", at),
        ]);
        shipment.status = "delivered";
        shipment.delivered_at = Some(at);
        order.shipment = Some(shipment);
        self.commit(Service::Warehouse, at, &[change])?;
        let returned = self.rng.chance(35);
        if returned {
            self.later(at, 24 * 60, 60 * 60, Event::Return(order.id));
        }
        let echoed = self.rng.chance(20);
        if echoed {
            self.due(at + 3_000, Event::Echo(order.id));
        }
        Ok(!returned && !echoed)
    }

    /// The carrier tells us twice; the second time changes nothing.
    pub(super) fn echo(&mut self, at: i64, order: &mut Order) -> io::Result<bool> {
        let shipment = order
            .shipment
            .as_ref()
            .expect("a delivered order has a parcel");
        let delivered_at = shipment.delivered_at.map_or(Val::Null, Val::Time);
        let change = shipment.update(vec![
            ("status", "delivered".into(), "delivered".into()),
            ("delivered_at", delivered_at.clone(), delivered_at),
        ]);
        self.commit(Service::Warehouse, at, &[change])?;
        Ok(false)
    }
}
