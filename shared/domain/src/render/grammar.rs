//! Which templates are allowed: a list of what may stand in them, checked on the parsed source.
//!
//! Allowed are text, printing, `if` and `for`; not allowed is whatever could make a value larger than what went in, or keep one for later.
//! That leaves nothing to double: a name is bound only by `for`, only to an element of something that was there, and nothing is captured.
//!
//! - `set`, `with`, `filter`, `autoescape`, `do` and recursive loops bind, capture or unescape.
//! - `~` and `**` grow, `+` and `*` grow unless they work on numbers (`'a' * 100000000` is folded while compiling, before any fuel).
//! - A list in a template may hold lists, for rows of a table, but no list may hold a loop's variable twice over: that doubles once per loop.
//! - A slice backwards, `loop.cycle()` without a value and the test `divisibleby` can end the engine with a panic.
//! - `loop` as a value can be put into itself and is then never freed.
//!
//! Before that the tokens are counted, because the engine's parser recurses once for each `-`, `not` and `elif`.

use minijinja::machinery::ast::{BinOpKind, CallArg, Expr, ForLoop, Stmt, UnaryOpKind};
use minijinja::machinery::{Span, Token, parse, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::compiled::shorten;
use super::filters::{FILTERS, NUMBER_FILTERS, TESTS};
use super::{Part, RenderError, RenderErrorKind};

/// The most tokens between one pair of braces.
const MAX_TAG_TOKENS: usize = 128;
/// How deep `if`, `elif` and `for` may nest, each `elif` counting as one more.
const MAX_NESTING: usize = 32;
/// How deep `for` may nest.
const MAX_LOOPS: usize = 4;

/// What `loop` has to offer.
const LOOP_ATTRIBUTES: [&str; 9] =
    ["index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0"];
/// Those of them that are numbers.
const LOOP_NUMBERS: [&str; 7] = ["index", "index0", "revindex", "revindex0", "length", "depth", "depth0"];

/// Why a source is not taken.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: RenderErrorKind,
    pub(crate) line: Option<usize>,
    /// The byte that it starts at.
    offset: Option<usize>,
    /// The character of the line, counted from 1.
    pub(crate) column: Option<usize>,
    pub(crate) detail: String,
}

impl Refusal {
    pub(super) fn into_error(self, part: Part) -> RenderError {
        RenderError { part, kind: self.kind, line: self.line, column: self.column, detail: self.detail }
    }

    /// Says where in the source it is, once the source is at hand.
    fn placed(self, source: &str) -> Self {
        match self.offset.and_then(|offset| place_of(source, offset)) {
            Some((line, column)) => Self { line: Some(line), column: Some(column), ..self },
            None => self,
        }
    }
}

/// Line and character of a byte of a source, both counted from 1; `None` when no character starts there.
pub(crate) fn place_of(source: &str, offset: usize) -> Option<(usize, usize)> {
    let before = source.get(..offset)?;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    Some((before.matches('\n').count() + 1, before[start..].chars().count() + 1))
}

fn refuse<T>(span: Span, detail: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        kind: RenderErrorKind::NotAllowed,
        line: Some(usize::from(span.start_line)),
        offset: Some(span.start_offset as usize),
        column: None,
        detail: detail.into(),
    })
}

impl From<minijinja::Error> for Refusal {
    fn from(error: minijinja::Error) -> Self {
        Self {
            kind: RenderErrorKind::Syntax,
            line: error.line(),
            offset: error.range().map(|range| range.start),
            column: None,
            detail: shorten(&match error.detail() {
                Some(detail) => detail.to_owned(),
                None => error.kind().to_string(),
            }),
        }
    }
}

/// A name that a template takes from its data, where it stands first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsedName {
    pub(crate) name: String,
    /// The byte that it starts at.
    pub(crate) offset: usize,
}

/// What is known of a source that passed.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// The names that it takes from the data, each once.
    pub(crate) names: Vec<UsedName>,
    /// How many tokens it has: the compiled form is about as long.
    pub(crate) tokens: usize,
}

/// Checks one source.
pub(crate) fn check(source: &str) -> Result<Checked, Refusal> {
    let walk = || {
        let tokens = check_tokens(source)?;
        let template = parse(source, "template", SyntaxConfig::default())?;
        let mut checker = Checker::default();
        checker.check_statement(&template)?;
        Ok(Checked { names: checker.used, tokens })
    };
    walk().map_err(|refusal: Refusal| refusal.placed(source))
}

/// Bounds how deep the parser and everything after it can recurse, names statements that are not allowed, and counts.
fn check_tokens(source: &str) -> Result<usize, Refusal> {
    let mut tokens = 0;
    // One number for each open `if` and `for`: itself and its `elif`s.
    let mut open: Vec<usize> = Vec::new();
    let mut tag_tokens = 0;
    let mut starts_block = false;
    let mut line = 1;
    for token in tokenize(source, false, SyntaxConfig::default()) {
        let (token, span) = token.map_err(|error| {
            let refusal = Refusal::from(error);
            // The tokenizer leaves it to the parser to say where it was.
            let line = refusal.line.or(Some(line));
            Refusal { line, ..refusal }
        })?;
        line = usize::from(span.end_line);
        tokens += 1;
        tag_tokens += 1;
        match token {
            Token::TemplateData(_) | Token::VariableStart => tag_tokens = 0,
            Token::BlockStart => {
                tag_tokens = 0;
                starts_block = true;
                continue;
            }
            Token::Ident(name) if starts_block => match name {
                "if" | "for" => open.push(1),
                "elif" => open.last_mut().into_iter().for_each(|count| *count += 1),
                "endif" | "endfor" => drop(open.pop()),
                "else" => {}
                _ => {
                    return refuse(span, format!("`{{% {} %}}` is not available", shorten(name)));
                }
            },
            _ => {}
        }
        starts_block = false;
        if tag_tokens > MAX_TAG_TOKENS {
            return refuse(span, "an expression is too long");
        }
        if open.iter().sum::<usize>() > MAX_NESTING {
            return refuse(span, "`if`, `elif` and `for` are nested too deep");
        }
    }
    Ok(tokens)
}

/// Walks a parsed template and knows which loops it is in.
#[derive(Default)]
struct Checker<'source> {
    /// How many loops are open.
    loops: usize,
    /// The names that they bind.
    bound: Vec<&'source str>,
    /// The names that come from the data.
    used: Vec<UsedName>,
}

impl<'source> Checker<'source> {
    fn check_statements(&mut self, statements: &[Stmt<'source>]) -> Result<(), Refusal> {
        statements.iter().try_for_each(|statement| self.check_statement(statement))
    }

    fn check_statement(&mut self, statement: &Stmt<'source>) -> Result<(), Refusal> {
        match statement {
            Stmt::Template(template) => self.check_statements(&template.children),
            Stmt::EmitRaw(_) => Ok(()),
            Stmt::EmitExpr(emit) => self.check_expression(&emit.expr),
            Stmt::IfCond(condition) => {
                self.check_expression(&condition.expr)?;
                self.check_statements(&condition.true_body)?;
                self.check_statements(&condition.false_body)
            }
            Stmt::ForLoop(each) => {
                if each.recursive {
                    return refuse(each.span(), "`recursive` is not available");
                }
                self.check_loop(each, each.span())
            }
            // `check_tokens` refuses these by name; a new statement of the engine ends here too.
            _ => Err(Refusal {
                kind: RenderErrorKind::NotAllowed,
                line: None,
                offset: None,
                column: None,
                detail: "a statement is not available".to_owned(),
            }),
        }
    }

    fn check_loop(&mut self, each: &ForLoop<'source>, span: Span) -> Result<(), Refusal> {
        self.check_expression(&each.iter)?;
        if self.loops == MAX_LOOPS {
            return refuse(span, "`for` is nested too deep");
        }
        let outer = self.bound.len();
        self.bind_names(&each.target);
        self.loops += 1;
        if let Some(filter) = &each.filter_expr {
            self.check_expression(filter)?;
        }
        self.check_statements(&each.body)?;
        self.loops -= 1;
        self.bound.truncate(outer);
        self.check_statements(&each.else_body)
    }

    fn bind_names(&mut self, target: &Expr<'source>) {
        match target {
            Expr::Var(variable) => self.bound.push(variable.id),
            Expr::List(list) => list.items.iter().for_each(|item| self.bind_names(item)),
            // The parser makes no other targets.
            _ => {}
        }
    }

    fn check_optional(&mut self, expression: Option<&Expr<'source>>) -> Result<(), Refusal> {
        expression.map_or(Ok(()), |expression| self.check_expression(expression))
    }

    fn check_expression(&mut self, expression: &Expr<'source>) -> Result<(), Refusal> {
        let span = expression.span();
        match expression {
            Expr::Const(_) => Ok(()),
            Expr::Var(variable) if variable.id == "loop" => {
                refuse(span, "`loop` is not a value: use `loop.index` or another of its attributes")
            }
            Expr::Var(variable) => {
                self.note_name(variable.id, span);
                Ok(())
            }
            Expr::GetAttr(get) => {
                if is_loop(&get.expr) {
                    if self.loops > 0 && LOOP_ATTRIBUTES.contains(&get.name) {
                        return Ok(());
                    }
                    return refuse(span, format!("`loop.{}` is not available here", shorten(get.name)));
                }
                self.check_expression(&get.expr)
            }
            Expr::GetItem(get) => {
                self.check_expression(&get.expr)?;
                self.check_expression(&get.subscript_expr)
            }
            // It walks a whole text for one step of fuel, and backwards it can panic.
            Expr::Slice(_) => refuse(span, "a slice is not available: use `truncate`, or `loop.index` in a loop"),
            Expr::UnaryOp(operation) => self.check_expression(&operation.expr),
            Expr::BinOp(operation) => {
                self.check_expression(&operation.left)?;
                self.check_expression(&operation.right)?;
                let are_numbers = (self.is_number(&operation.left), self.is_number(&operation.right));
                match operation.op {
                    BinOpKind::Concat => refuse(span, "`~` is not available: print the values one after another"),
                    BinOpKind::Pow => refuse(span, "`**` is not available"),
                    // A number and a text cannot be added, so one number says that both are.
                    BinOpKind::Add if are_numbers == (false, false) => {
                        refuse(span, "`+` adds numbers only: write one of them as `x|int` or `x|float`")
                    }
                    // A text times a number repeats the text.
                    BinOpKind::Mul if are_numbers != (true, true) => {
                        refuse(span, "`*` multiplies numbers only: write both as `x|int` or `x|float`")
                    }
                    _ => Ok(()),
                }
            }
            Expr::Compare(compare) => {
                self.check_expression(&compare.expr)?;
                compare.ops.iter().try_for_each(|operand| self.check_expression(&operand.expr))
            }
            Expr::IfExpr(choice) => {
                self.check_expression(&choice.test_expr)?;
                self.check_expression(&choice.true_expr)?;
                self.check_optional(choice.false_expr.as_ref())
            }
            Expr::Filter(filter) => {
                if !FILTERS.contains(&filter.name) {
                    return refuse(span, format!("the filter `{}` is not available", shorten(filter.name)));
                }
                self.check_optional(filter.expr.as_ref())?;
                self.check_arguments(&filter.args, span)
            }
            Expr::Test(test) => {
                if !TESTS.contains(&test.name) {
                    return refuse(span, format!("the test `{}` is not available", shorten(test.name)));
                }
                self.check_expression(&test.expr)?;
                self.check_arguments(&test.args, span)
            }
            Expr::Call(call) => {
                let is_known = matches!(
                    &call.expr,
                    Expr::GetAttr(get) if is_loop(&get.expr) && matches!(get.name, "cycle" | "changed")
                );
                if !is_known || self.loops == 0 {
                    return refuse(span, "functions and methods are not available");
                }
                if call.args.is_empty() {
                    return refuse(span, "`loop.cycle` and `loop.changed` need a value");
                }
                self.check_arguments(&call.args, span)
            }
            Expr::List(list) => self.check_list(&list.items, span, 0),
            Expr::Tuple(tuple) => self.check_list(&tuple.items, span, 0),
            Expr::Map(_) => refuse(span, "a map is not available"),
        }
    }

    fn check_arguments(&mut self, arguments: &[CallArg<'source>], span: Span) -> Result<(), Refusal> {
        arguments.iter().try_for_each(|argument| match argument {
            CallArg::Pos(expression) | CallArg::Kwarg(_, expression) => self.check_expression(expression),
            CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                refuse(span, "`*` and `**` before an argument are not available")
            }
        })
    }

    /// A list may hold constants and variables, and lists of them one level deep.
    ///
    /// An inner list must not hold what a loop bound: `for x in [[x, x]]` doubles `x`.
    fn check_list(&mut self, items: &[Expr<'source>], span: Span, level: usize) -> Result<(), Refusal> {
        items.iter().try_for_each(|item| match item {
            Expr::Const(_) => Ok(()),
            Expr::List(list) if level == 0 => self.check_list(&list.items, span, 1),
            Expr::Tuple(tuple) if level == 0 => self.check_list(&tuple.items, span, 1),
            _ => match root_of(item) {
                None | Some("loop") => refuse(span, "a list may hold constants and variables only"),
                Some(root) if level > 0 && self.bound.contains(&root) => {
                    refuse(span, "a list in a list must not hold a loop's variable")
                }
                Some(_) => self.check_expression(item),
            },
        })
    }

    fn note_name(&mut self, name: &str, span: Span) {
        if !self.bound.contains(&name) && !self.used.iter().any(|used| used.name == name) {
            self.used.push(UsedName { name: name.to_owned(), offset: span.start_offset as usize });
        }
    }

    /// Whether an expression is a number or an error, whatever the data is.
    fn is_number(&self, expression: &Expr<'source>) -> bool {
        match expression {
            Expr::Const(constant) => constant.value.is_number(),
            Expr::UnaryOp(operation) => matches!(operation.op, UnaryOpKind::Neg),
            // Adding and multiplying passed the check for numbers, or the template did not.
            Expr::BinOp(operation) => matches!(
                operation.op,
                BinOpKind::Add
                    | BinOpKind::Sub
                    | BinOpKind::Mul
                    | BinOpKind::Div
                    | BinOpKind::FloorDiv
                    | BinOpKind::Rem
            ),
            Expr::Filter(filter) => NUMBER_FILTERS.contains(&filter.name),
            Expr::GetAttr(get) => self.loops > 0 && is_loop(&get.expr) && LOOP_NUMBERS.contains(&get.name),
            _ => false,
        }
    }
}

fn is_loop(expression: &Expr<'_>) -> bool {
    matches!(expression, Expr::Var(variable) if variable.id == "loop")
}

/// The variable that a path such as `a.b[0].c` starts with; `None` when it is no path.
fn root_of<'source>(expression: &Expr<'source>) -> Option<&'source str> {
    match expression {
        Expr::Var(variable) => Some(variable.id),
        Expr::GetAttr(get) => root_of(&get.expr),
        Expr::GetItem(get) if matches!(get.subscript_expr, Expr::Const(_)) => root_of(&get.expr),
        _ => None,
    }
}
