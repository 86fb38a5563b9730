//! What a message costs through each provider, as the configuration says it. Nobody asks a
//! vendor: a price is the operator's, and so is the currency.

use crate::domain::money::Micros;
use crate::domain::phone::{Phone, Region};

/// The price of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Where nothing else is said.
    pub usual: Micros,
    /// By country.
    pub countries: Vec<(Region, Micros)>,
    /// By what the number begins with (`+86138`).
    pub prefixes: Vec<(String, Micros)>,
    /// Whether it is that of a segment, and not of the whole message.
    pub per_segment: bool,
}

impl Price {
    /// What one segment to this phone costs: the longest prefix decides, then the country.
    pub fn of(&self, phone: &Phone, country: Option<Region>) -> Micros {
        let begins = |(prefix, _): &&(String, Micros)| phone.e164().starts_with(prefix.as_str());
        let prefix = self.prefixes.iter().filter(begins).max_by_key(|(prefix, _)| prefix.len());
        let named = |(named, _): &&(Region, Micros)| Some(*named) == country;
        let price = prefix.map(|(_, price)| *price);
        let price = price.or_else(|| self.countries.iter().find(named).map(|(_, price)| *price));
        price.unwrap_or(self.usual)
    }

    /// Whether no message costs anything.
    pub fn is_nothing(&self) -> bool {
        let mut named =
            self.countries.iter().map(|it| it.1).chain(self.prefixes.iter().map(|it| it.1));
        self.usual.is_nothing() && named.all(|price| price.is_nothing())
    }
}

/// The prices of all providers, in the configured order.
#[derive(Clone, Debug, Default)]
pub struct Prices(Vec<Price>);

impl Prices {
    /// These prices; where none is above nothing, nothing is looked up.
    pub fn new(prices: Vec<Price>) -> Self {
        Self(if prices.iter().all(Price::is_nothing) { Vec::new() } else { prices })
    }

    /// Whether no price is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What one segment to this phone costs through each provider; empty where nothing is known.
    pub fn of(&self, phone: &Phone, country: Option<Region>) -> Vec<Micros> {
        self.0.iter().map(|price| price.of(phone, country)).collect()
    }

    /// Turns prices of a segment into those of a text of so many, where it is billed so. The text
    /// is counted only if a price depends on it.
    pub fn in_segments(&self, costs: &mut [Micros], segments: impl FnOnce() -> usize) {
        let billed = |price: &Price| price.per_segment && !price.is_nothing();
        if !self.0.iter().any(billed) {
            return;
        }
        let segments = segments();
        for (cost, price) in costs.iter_mut().zip(&self.0) {
            if price.per_segment {
                *cost = cost.times(segments);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> Micros {
        text.parse().unwrap()
    }

    fn price() -> Price {
        Price {
            usual: micros("0.3"),
            countries: vec![("CN".parse().unwrap(), micros("0.045"))],
            prefixes: vec![
                ("+852".to_owned(), micros("0.2")),
                ("+86170".to_owned(), micros("0.06")),
                ("+861701".to_owned(), micros("0.07")),
            ],
            per_segment: true,
        }
    }

    #[test]
    fn the_longest_prefix_decides_then_the_country_then_what_is_usual() {
        for (number, wanted) in [
            ("+8613800138000", "0.045"),
            ("+8617000138000", "0.06"),
            ("+8617010138000", "0.07"),
            ("+85261234567", "0.2"),
            ("+447700900123", "0.3"),
        ] {
            let phone = Phone::from_e164(number).unwrap();
            assert_eq!(price().of(&phone, phone.country()), micros(wanted), "{number}");
        }
    }

    #[test]
    fn segments_count_where_they_are_billed() {
        let by_message = Price { per_segment: false, ..price() };
        let prices = Prices::new(vec![price(), by_message]);
        let phone = Phone::from_e164("+8613800138000").unwrap();
        let mut costs = prices.of(&phone, phone.country());
        prices.in_segments(&mut costs, || 3);
        assert_eq!(costs, [micros("0.135"), micros("0.045")]);
    }

    #[test]
    fn nothing_is_looked_up_where_nothing_costs() {
        let prices = Prices::new(vec![Price { per_segment: true, ..Price::default() }]);
        let phone = Phone::from_e164("+8613800138000").unwrap();
        assert!(prices.of(&phone, None).is_empty() && prices.is_empty());
        prices.in_segments(&mut [], || panic!("the text is not counted"));
    }
}
