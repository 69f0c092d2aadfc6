use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> BiasSelection {
    BiasSelection::parse(text).unwrap()
}

fn error(text: &str) -> String {
    BiasSelection::parse(text).unwrap_err().to_string()
}

#[test]
fn the_table_is_in_the_order_of_the_enum() {
    for (place, component) in Component::ALL.into_iter().enumerate() {
        assert_eq!(TABLE[place].component, component);
        assert_eq!(component.name().parse::<Component>().unwrap(), component);
    }
}

#[test]
fn a_name_selects_exactly_one_kind_of_bias() {
    for chosen in Component::ALL {
        let selection = parse(chosen.name());
        for other in Component::ALL {
            let layer = other.per_layer().then_some(3);
            assert_eq!(selection.selects(other, layer), other == chosen, "{chosen} {other}");
        }
    }
}

#[test]
fn ranges_are_inclusive_and_counted_from_zero() {
    let layers = |text: &str| -> Vec<usize> {
        let selection = parse(text);
        (0..8).filter(|&layer| selection.selects(Component::Intermediate, Some(layer))).collect()
    };
    assert_eq!(layers("intermediate@4..6"), [4, 5, 6]);
    assert_eq!(layers("intermediate@4"), [4]);
    assert_eq!(layers("intermediate@5.."), [5, 6, 7]);
    assert_eq!(layers("intermediate@..2"), [0, 1, 2]);
    assert_eq!(layers("intermediate@0,intermediate@7"), [0, 7]);
    assert_eq!(layers("query"), [0usize; 0]);
}

#[test]
fn equal_choices_are_equal_and_print_in_one_form() {
    assert_eq!(parse("value, query@0..2,query@3..5"), parse("query@..5,value"));
    assert_eq!(parse("value,query@0..2,query@3").to_string(), "query@0..3,value");
    assert_eq!(parse("key@3..,key@4").to_string(), "key@3..");
    let every = Component::ALL.map(Component::name).join(",");
    assert_eq!(parse(&every).to_string(), "all");
    assert_eq!(BiasSelection::none().to_string(), "none");
    assert!(parse("none").is_none());
}

#[test]
fn mistakes_are_named_with_a_way_out() {
    assert!(error("qurey").contains("did you mean `query`?"), "{}", error("qurey"));
    assert!(error("output-layernrom").contains("did you mean `output-layernorm`?"));
    assert!(error("intermediate@6..4").contains("ends before it begins"));
    assert!(error("intermediate@x").contains("`x` is not a layer number"));
    assert!(error("intermediate@..").contains("neither end"));
    assert!(error("pooler@1").contains("exists once per model"));
    assert!(error("all,query").contains("`all` cannot be combined"));
    assert!(error("all@2..").contains("`all` cannot be combined"));
    assert!(error("query,,key").contains("a name is missing"));
    assert!(error("  ").contains("no biases named"));
}

#[test]
fn a_range_outside_the_model_is_refused() {
    assert!(parse("key@4..5").validate(6).is_ok());
    assert!(parse("key@5..").validate(6).is_ok());
    let message = parse("key@4..6").validate(6).unwrap_err().to_string();
    assert!(message.contains("6 layers, numbered 0 to 5"), "{message}");
    assert!(parse("key@6..").validate(6).is_err());
    assert!(parse("pooler,embeddings-layernorm").validate(1).is_ok());
}

#[test]
fn the_lowest_trained_layer_is_where_backward_may_stop() {
    assert_eq!(BiasSelection::all().lowest_layer(6), Some(0));
    assert_eq!(parse("output@4..,query@2").lowest_layer(6), Some(2));
    assert_eq!(parse("pooler").lowest_layer(6), None);
}

#[test]
fn bert_base_has_the_papers_number_of_biases() {
    // 12 layers, hidden 768, intermediate 3072.
    let count: usize =
        Component::ALL.into_iter().map(|component| component.count(768, 3072, 12)).sum();
    assert_eq!(count, 12 * (7 * 768 + 3072) + 2 * 768);
    assert_eq!(Component::Intermediate.count(768, 3072, 12), 36_864);
    assert_eq!(Component::Pooler.count(768, 3072, 12), 768);
}

proptest! {
    #[test]
    fn printing_and_parsing_round_trips(items in proptest::collection::vec(
        (0usize..10, 0usize..6, 0usize..6, 0u8..5), 1..6)) {
        let text = items
            .iter()
            .map(|&(component, first, length, form)| {
                let component = Component::ALL[component];
                match form {
                    _ if !component.per_layer() => component.to_string(),
                    0 => component.to_string(),
                    1 => format!("{component}@{first}"),
                    2 => format!("{component}@{first}.."),
                    3 => format!("{component}@..{length}"),
                    _ => format!("{component}@{first}..{}", first + length),
                }
            })
            .collect::<Vec<_>>()
            .join(",");
        let selection = BiasSelection::parse(&text).unwrap();
        prop_assert_eq!(&BiasSelection::parse(&selection.to_string()).unwrap(), &selection);
        let json = serde_json::to_string(&selection).unwrap();
        prop_assert_eq!(&serde_json::from_str::<BiasSelection>(&json).unwrap(), &selection);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
        let _ = BiasSelection::parse(&text);
    }
}
