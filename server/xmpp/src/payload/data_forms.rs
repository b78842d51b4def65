//! XEP-0004: Data Forms, with the FORM_TYPE of XEP-0068

use crate::element::Element;
use crate::ns;

/// The field that names what a form is about (XEP-0068 §2).
pub const FORM_TYPE: &str = "FORM_TYPE";

/// The most fields of one form that are read.
const MAX_FIELDS: usize = 256;
/// The most rows of one table that are read.
const MAX_ITEMS: usize = 1024;
/// The most values of one field that are read.
const MAX_VALUES: usize = 1024;

/// §3.1: what a form is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormKind {
    /// To be filled in.
    Form,
    /// Filled in.
    Submit,
    /// Given up.
    Cancel,
    /// Data that is reported.
    Result,
}

impl FormKind {
    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            FormKind::Form => "form",
            FormKind::Submit => "submit",
            FormKind::Cancel => "cancel",
            FormKind::Result => "result",
        }
    }
}

/// §3.3: the type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Yes or no.
    Boolean,
    /// Text to be read.
    Fixed,
    /// Not shown.
    Hidden,
    /// Several JIDs.
    JidMulti,
    /// One JID.
    JidSingle,
    /// Several of the options.
    ListMulti,
    /// One of the options.
    ListSingle,
    /// Lines of text.
    TextMulti,
    /// A line that is not shown.
    TextPrivate,
    /// A line of text; also what an unknown or absent type is.
    TextSingle,
}

impl FieldKind {
    const ALL: [FieldKind; 10] = [
        FieldKind::Boolean,
        FieldKind::Fixed,
        FieldKind::Hidden,
        FieldKind::JidMulti,
        FieldKind::JidSingle,
        FieldKind::ListMulti,
        FieldKind::ListSingle,
        FieldKind::TextMulti,
        FieldKind::TextPrivate,
        FieldKind::TextSingle,
    ];

    /// As written.
    pub fn as_str(self) -> &'static str {
        match self {
            FieldKind::Boolean => "boolean",
            FieldKind::Fixed => "fixed",
            FieldKind::Hidden => "hidden",
            FieldKind::JidMulti => "jid-multi",
            FieldKind::JidSingle => "jid-single",
            FieldKind::ListMulti => "list-multi",
            FieldKind::ListSingle => "list-single",
            FieldKind::TextMulti => "text-multi",
            FieldKind::TextPrivate => "text-private",
            FieldKind::TextSingle => "text-single",
        }
    }

    fn from_word(word: &str) -> FieldKind {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == word);
        found.unwrap_or(FieldKind::TextSingle)
    }
}

/// §3.2: a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name; fixed text may have none.
    pub var: Option<String>,
    /// Its type; `None` where a submission leaves it out.
    pub kind: Option<FieldKind>,
    /// What a person reads beside it.
    pub label: Option<String>,
    /// It must be filled in.
    pub required: bool,
    /// Its values.
    pub values: Vec<String>,
    /// What may be chosen: label and value.
    pub options: Vec<(Option<String>, String)>,
}

impl Field {
    /// A field without label, values and options.
    pub fn new(var: impl Into<String>, kind: FieldKind) -> Field {
        Field {
            var: Some(var.into()),
            kind: Some(kind),
            label: None,
            required: false,
            values: Vec::new(),
            options: Vec::new(),
        }
    }

    /// With a label.
    pub fn label(mut self, label: impl Into<String>) -> Field {
        self.label = Some(label.into());
        self
    }

    /// With one more value.
    pub fn value(mut self, value: impl Into<String>) -> Field {
        self.values.push(value.into());
        self
    }

    /// With more values.
    pub fn values<V: Into<String>>(mut self, values: impl IntoIterator<Item = V>) -> Field {
        self.values.extend(values.into_iter().map(Into::into));
        self
    }

    /// With one more option, which is its own label.
    pub fn option(mut self, value: impl Into<String>) -> Field {
        self.options.push((None, value.into()));
        self
    }

    /// To be filled in.
    pub fn required(mut self) -> Field {
        self.required = true;
        self
    }

    fn parse(field: &Element) -> Result<Field, Error> {
        let mut values = Vec::new();
        for value in field
            .children()
            .filter(|child| child.is("value", ns::DATA_FORMS))
        {
            if values.len() == MAX_VALUES {
                return Err(Error::TooLarge);
            }
            values.push(value.text());
        }
        let options = field
            .children()
            .filter(|child| child.is("option", ns::DATA_FORMS));
        let options = options.filter_map(|option| {
            let value = option.child_text("value", ns::DATA_FORMS)?;
            Some((option.attr("label").map(str::to_owned), value))
        });
        Ok(Field {
            var: field.attr("var").map(str::to_owned),
            kind: field.attr("type").map(FieldKind::from_word),
            label: field.attr("label").map(str::to_owned),
            required: field.has("required", ns::DATA_FORMS),
            values,
            options: options.take(MAX_VALUES).collect(),
        })
    }

    fn to_element(&self) -> Element {
        let value = |value: &str| Element::new("value", ns::DATA_FORMS).with_text(value);
        let required = self
            .required
            .then(|| Element::new("required", ns::DATA_FORMS));
        let options = self.options.iter().map(|(label, chosen)| {
            Element::new("option", ns::DATA_FORMS)
                .with_attr_opt("label", label.as_deref())
                .with_child(value(chosen))
        });
        Element::new("field", ns::DATA_FORMS)
            .with_attr_opt("type", self.kind.map(FieldKind::as_str))
            .with_attr_opt("label", self.label.as_deref())
            .with_attr_opt("var", self.var.as_deref())
            .with_children(required)
            .with_children(self.values.iter().map(|text| value(text)))
            .with_children(options)
    }
}

/// `<x xmlns='jabber:x:data'/>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// What it is for.
    pub kind: FormKind,
    /// Its title.
    pub title: Option<String>,
    /// What to do with it.
    pub instructions: Option<String>,
    /// Its fields, FORM_TYPE among them.
    pub fields: Vec<Field>,
    /// §3.4: the columns of a table.
    pub reported: Option<Vec<Field>>,
    /// §3.4: the rows of a table.
    pub items: Vec<Vec<Field>>,
}

/// Why an element is not a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another element, or a `type` that there is not.
    #[error("not a data form")]
    Malformed,
    /// Too many fields or values.
    #[error("the data form is too large")]
    TooLarge,
}

impl Form {
    /// An empty form.
    pub fn new(kind: FormKind) -> Form {
        Form {
            kind,
            title: None,
            instructions: None,
            fields: Vec::new(),
            reported: None,
            items: Vec::new(),
        }
    }

    /// An empty form of this FORM_TYPE (XEP-0068).
    pub fn typed(kind: FormKind, form_type: &str) -> Form {
        let hidden = Field::new(FORM_TYPE, FieldKind::Hidden).value(form_type);
        Form {
            fields: vec![hidden],
            ..Form::new(kind)
        }
    }

    /// With a title.
    pub fn title(mut self, title: impl Into<String>) -> Form {
        self.title = Some(title.into());
        self
    }

    /// With instructions.
    pub fn instructions(mut self, instructions: impl Into<String>) -> Form {
        self.instructions = Some(instructions.into());
        self
    }

    /// With one more field.
    pub fn with(mut self, field: Field) -> Form {
        self.fields.push(field);
        self
    }

    /// Reads a form.
    pub fn parse(x: &Element) -> Result<Form, Error> {
        if !x.is("x", ns::DATA_FORMS) {
            return Err(Error::Malformed);
        }
        let kinds = [
            FormKind::Form,
            FormKind::Submit,
            FormKind::Cancel,
            FormKind::Result,
        ];
        let kind = kinds
            .into_iter()
            .find(|kind| Some(kind.as_str()) == x.attr("type"));
        let named = |name: &'static str| {
            let children = x.children();
            children.filter(move |child| child.is(name, ns::DATA_FORMS))
        };
        let items = named("item")
            .take(MAX_ITEMS + 1)
            .map(fields)
            .collect::<Result<Vec<_>, _>>()?;
        if items.len() > MAX_ITEMS {
            return Err(Error::TooLarge);
        }
        Ok(Form {
            kind: kind.ok_or(Error::Malformed)?,
            title: x.child_text("title", ns::DATA_FORMS),
            instructions: x.child_text("instructions", ns::DATA_FORMS),
            fields: fields(x)?,
            reported: named("reported").next().map(fields).transpose()?,
            items,
        })
    }

    /// The FORM_TYPE (XEP-0068 §3).
    pub fn form_type(&self) -> Option<&str> {
        self.value(FORM_TYPE)
    }

    /// The field of this name.
    pub fn field(&self, var: &str) -> Option<&Field> {
        self.fields
            .iter()
            .find(|field| field.var.as_deref() == Some(var))
    }

    /// The first value of the field of this name.
    pub fn value(&self, var: &str) -> Option<&str> {
        self.field(var)?.values.first().map(String::as_str)
    }

    /// §3.3: the value of a boolean field; `None` where it is neither yes nor no.
    pub fn boolean(&self, var: &str) -> Option<bool> {
        match self.value(var)? {
            "1" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        }
    }

    /// `<x/>`.
    pub fn to_element(&self) -> Element {
        let text = |name: &'static str, text: &Option<String>| {
            text.as_ref()
                .map(|text| Element::new(name, ns::DATA_FORMS).with_text(text))
        };
        Element::new("x", ns::DATA_FORMS)
            .with_attr("type", self.kind.as_str())
            .with_children(text("title", &self.title))
            .with_children(text("instructions", &self.instructions))
            .with_children(self.fields.iter().map(Field::to_element))
            .with_children(
                self.reported
                    .as_deref()
                    .map(|columns| row("reported", columns)),
            )
            .with_children(self.items.iter().map(|cells| row("item", cells)))
    }
}

/// The fields directly within an element.
fn fields(parent: &Element) -> Result<Vec<Field>, Error> {
    let mut fields = Vec::new();
    for field in parent
        .children()
        .filter(|child| child.is("field", ns::DATA_FORMS))
    {
        if fields.len() == MAX_FIELDS {
            return Err(Error::TooLarge);
        }
        fields.push(Field::parse(field)?);
    }
    Ok(fields)
}

fn row(name: &'static str, fields: &[Field]) -> Element {
    Element::new(name, ns::DATA_FORMS).with_children(fields.iter().map(Field::to_element))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_back() {
        let mut form = Form::new(FormKind::Result);
        form.reported = Some(vec![Field::new("c", FieldKind::TextSingle).label("C")]);
        form.items = vec![
            vec![Field::new("c", FieldKind::TextSingle).value("1")],
            vec![Field::new("c", FieldKind::TextSingle).value("2")],
        ];
        let xml = form.to_element().to_xml();
        assert_eq!(parse(&xml), Ok(form));
        let long = format!(
            "<x xmlns='jabber:x:data' type='result'>{}</x>",
            "<item/>".repeat(MAX_ITEMS + 1)
        );
        assert_eq!(parse(&long), Err(Error::TooLarge));
    }

    fn parse(xml: &str) -> Result<Form, Error> {
        Form::parse(&Element::parse(xml).expect("test input"))
    }

    #[test]
    fn a_form_reads_back() {
        let form = Form::typed(FormKind::Form, "urn:t")
            .title("T")
            .instructions("I")
            .with(
                Field::new("yes", FieldKind::Boolean)
                    .label("Yes?")
                    .value("1")
                    .required(),
            )
            .with(
                Field::new("one", FieldKind::ListSingle)
                    .option("a")
                    .option("b")
                    .value("b"),
            );
        let xml = form.to_element().to_xml();
        assert_eq!(parse(&xml), Ok(form.clone()), "{xml}");
        assert_eq!(form.form_type(), Some("urn:t"));
        assert_eq!(
            (form.boolean("yes"), form.boolean("one")),
            (Some(true), None)
        );
        assert_eq!((form.value("one"), form.value("none")), (Some("b"), None));
    }

    #[test]
    fn submissions_may_leave_types_out() {
        let form = parse(
            "<x xmlns='jabber:x:data' type='submit'><field var='a'><value>1</value>\
             <value>2</value></field><field var='b' type='unheard-of'/></x>",
        )
        .expect("valid");
        assert_eq!(form.fields[0].values, ["1", "2"]);
        assert_eq!(form.fields[0].kind, None);
        assert_eq!(form.fields[1].kind, Some(FieldKind::TextSingle));
    }

    #[test]
    fn other_elements_are_no_forms() {
        assert_eq!(
            parse("<x xmlns='jabber:x:data' type='forms'/>"),
            Err(Error::Malformed)
        );
        assert_eq!(parse("<x xmlns='jabber:x:data'/>"), Err(Error::Malformed));
        assert_eq!(
            parse("<y xmlns='jabber:x:data' type='form'/>"),
            Err(Error::Malformed)
        );
        let many = "<field var='a'/>".repeat(MAX_FIELDS + 1);
        let many = format!("<x xmlns='jabber:x:data' type='submit'>{many}</x>");
        assert_eq!(parse(&many), Err(Error::TooLarge));
    }
}
