//! The declared topology as a Mermaid flow chart: services, their handlers, and the events that pass between them.
//!
//! Invariant: the same declarations give the same text.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{Catalogue, HandlerEntry, HandlerKind};

impl Catalogue {
    /// The topology as a [Mermaid](https://mermaid.js.org) flow chart, for documentation and for tests that notice when
    /// it changes.
    pub fn to_mermaid(&self) -> String {
        let mut chart = String::from("flowchart LR\n");
        for service in self.services() {
            line(&mut chart, &format!("  subgraph {} [\"{service}\"]", id("service", service)));
            for handler in self.handlers.iter().filter(|handler| handler.service == service) {
                line(&mut chart, &format!("    {}", node(handler)));
            }
            line(&mut chart, "  end");
        }
        let mut edges = BTreeSet::new();
        for taker in &self.handlers {
            for event in &taker.consumes {
                edges.extend(self.edges(event, taker));
            }
        }
        edges.iter().for_each(|edge| line(&mut chart, edge));
        chart
    }

    /// In the order in which they first mount something.
    fn services(&self) -> Vec<&str> {
        let mut services: Vec<&str> = Vec::new();
        for handler in &self.handlers {
            if !services.contains(&handler.service.as_str()) {
                services.push(&handler.service);
            }
        }
        services
    }

    /// From everyone who causes an event to one who takes it.
    fn edges(&self, event: &str, taker: &HandlerEntry) -> Vec<String> {
        let to = id_of(taker);
        let causes = self.producers(event).map(|handler| format!("  {} -->|{event}| {to}", id_of(handler)));
        let outside =
            self.external.contains(event).then(|| format!("  outside([\"outside\"]) -->|{event}| {to}"));
        causes.chain(outside).collect()
    }
}

fn line(chart: &mut String, text: &str) {
    writeln!(chart, "{text}").expect("a string takes every text");
}

/// A handler in the shape of its kind.
fn node(handler: &HandlerEntry) -> String {
    let (open, close) = match handler.kind {
        HandlerKind::Reaction => ("[", "]"),
        HandlerKind::Command => ("[/", "/]"),
        HandlerKind::Projection => ("[(", ")]"),
        HandlerKind::Saga => ("{{", "}}"),
        HandlerKind::Relay | HandlerKind::Intake => ("([", "])"),
    };
    format!("{}{open}\"{}\"{close}", id_of(handler), handler.name)
}

fn id_of(handler: &HandlerEntry) -> String {
    id("handler", &handler.name)
}

/// A name as an identifier. The prefix keeps it from being a word of the language; what is no letter or digit becomes
/// its number, so that two names stay two.
fn id(prefix: &str, name: &str) -> String {
    name.chars().fold(prefix.to_owned() + "_", |mut id, letter| {
        match letter {
            letter if letter.is_ascii_alphanumeric() => id.push(letter),
            '-' => id.push('_'),
            other => write!(id, "_{}_", u32::from(other)).expect("a string takes every text"),
        }
        id
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(
        name: &str,
        service: &str,
        kind: HandlerKind,
        consumes: &str,
        causes: &[&str],
    ) -> HandlerEntry {
        HandlerEntry {
            name: name.to_owned(),
            service: service.to_owned(),
            kind,
            consumes: vec![consumes.to_owned()],
            causes: causes.iter().map(ToString::to_string).collect(),
            lanes: 1,
            retry_ms_max: None,
            owner: None,
        }
    }

    #[test]
    fn a_topology_is_drawn_by_service_with_every_event_on_its_way() {
        let catalogue = Catalogue {
            handlers: vec![
                handler(
                    "take-payment",
                    "payment",
                    HandlerKind::Reaction,
                    "OrderPlaced",
                    &["Paid", "Refused"],
                ),
                handler("view.orders", "orders", HandlerKind::Projection, "Paid", &[]),
            ],
            external: ["OrderPlaced".to_owned()].into(),
            ..Catalogue::default()
        };
        let drawn = "\
flowchart LR
  subgraph service_payment [\"payment\"]
    handler_take_payment[\"take-payment\"]
  end
  subgraph service_orders [\"orders\"]
    handler_view_46_orders[(\"view.orders\")]
  end
  handler_take_payment -->|Paid| handler_view_46_orders
  outside([\"outside\"]) -->|OrderPlaced| handler_take_payment
";
        assert_eq!(catalogue.to_mermaid(), drawn);
    }
}
