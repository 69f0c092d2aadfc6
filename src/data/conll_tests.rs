use super::*;
use crate::data::ColumnNames;

fn read_as(input: &str, format: FileFormat, label: Option<&str>) -> Result<Vec<Document>> {
    let options = ReadOptions {
        format: None,
        columns: ColumnNames { label: label.map(str::to_owned), ..ColumnNames::default() },
        label_use: LabelUse::Required,
        label_lists: false,
        trained: None,
    };
    ConllReader::new(input.as_bytes(), "d.conll", format, &options)?.collect()
}

fn read(input: &str) -> Result<Vec<Document>> {
    read_as(input, FileFormat::Conll, None)
}

fn tags(document: &Document) -> Vec<&str> {
    match &document.gold {
        Gold::Tags(tags) => tags.iter().map(String::as_str).collect(),
        _ => panic!("no tags"),
    }
}

#[test]
fn blank_lines_part_sentences_and_the_last_column_has_the_tags() {
    let input = "\u{feff}-DOCSTART- -X- -X- O\r\n\r\nAnn NNP I-NP B-PER\r\nsings VBZ I-VP O\r\n \r\n\r\n# NN I-NP O\r\n";
    let all = read(input).unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(
        (all[0].text.as_str(), all[0].line, tags(&all[0])),
        ("Ann sings", 3, vec!["B-PER", "O"])
    );
    assert_eq!((all[1].text.as_str(), all[1].line), ("#", 7), "a word may be #");
    let second = read_as(input, FileFormat::Conll, Some("2")).unwrap();
    assert_eq!(tags(&second[0]), ["NNP", "VBZ"]);
}

#[test]
fn universal_dependencies_have_contractions_and_words_that_are_not_there() {
    let row =
        |id: &str, form: &str, upos: &str| format!("{id}\t{form}\t_\t{upos}\tX\t_\t_\t_\t_\t_\n");
    let input = [
        "# sent_id = s-1\n# text = vámonos al mar\n".to_owned(),
        row("1-2", "vámonos", "_"),
        row("1", "vamos", "VERB"),
        row("2", "nos", "PRON"),
        row("2.1", "_", "VERB"),
        row("3", "al mar", "NOUN"),
    ]
    .concat();
    let all = read_as(&input, FileFormat::Conllu, None).unwrap();
    assert_eq!(all[0].id.as_deref(), Some("s-1"));
    assert_eq!(
        (all[0].text.as_str(), tags(&all[0])),
        ("vamos nos al mar", vec!["VERB", "PRON", "NOUN"])
    );
    assert_eq!(all[0].lines, [4, 5, 7]);
    let xpos = read_as(&input, FileFormat::Conllu, Some("XPOS")).unwrap();
    assert_eq!(tags(&xpos[0]), ["X", "X", "X"]);
}

#[test]
fn what_does_not_fit_is_refused_by_line() {
    for (input, problem) in [
        ("a O\nb\n", "d.conll:2: 1 column, where the first line has 2"),
        ("a\tO\nb O\n", "d.conll:2: 1 column, separated by tabs, where the first line has 2"),
        ("a\n", "d.conll:1: a word without a tag: the line has only one column"),
        ("a\tO\n\tO\n\nb\t\n", "d.conll:4: the word \"b\" has no tag"),
        ("a\tO\ntwo words\tO\n", "d.conll:2: the word \"two words\" has spaces in it"),
        ("token\ttag\na\tO\n", "d.conll:1: the line looks like column names"),
        ("\n \n", "d.conll: the file has no words"),
    ] {
        let error = format!("{:#}", read(input).unwrap_err());
        assert!(error.starts_with(problem), "{error}");
    }
    for (label, problem) in [
        ("3", "d.conll:1: 2 columns, but --label-column asks for column 3"),
        ("0", "d.conll: --label-column \"0\": columns of this file are numbered from 1"),
        ("ner", "d.conll: --label-column \"ner\": columns of this file are numbered"),
        ("1", "d.conll:1: --text-column and --label-column are the same column"),
    ] {
        let error = read_as("a O\n", FileFormat::Conll, Some(label)).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.starts_with(problem), "{error}");
    }
    let universal =
        |line: &str| format!("{:#}", read_as(line, FileFormat::Conllu, None).unwrap_err());
    assert!(universal("1\ta\n").contains("2 columns, separated by tabs, where CoNLL-U has 10"));
    assert!(
        universal("x\ta\t_\tX\t_\t_\t_\t_\t_\t_\n")
            .contains("\"x\" in the first column is not the number of a word")
    );
    assert!(universal("1\ta\t_\t_\t_\t_\t_\t_\t_\t_\n").contains("the word \"a\" has no tag"));
}

#[test]
fn a_sentence_is_there_once_a_blank_line_has_come() {
    let mut lines = Lines::new("a O\nb O\n".as_bytes(), "t");
    lines.next().unwrap();
    assert!(!lines.block_ready(), "it may go on");
    let mut lines = Lines::new("a O\nb O\n\nc".as_bytes(), "t");
    lines.next().unwrap();
    assert!(lines.block_ready());
    lines.next().unwrap();
    assert!(!lines.block_ready(), "the blank line ends the sentence before");
}
