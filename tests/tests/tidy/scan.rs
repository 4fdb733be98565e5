//! One Rust file as the rules see it: its tokens with their lines, its functions with their lengths, and which lines
//! are test code.

use std::collections::BTreeSet;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use crate::tree::TextFile;

/// A word or a sign, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A function, from the line of its signature to its closing brace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

/// One scanned file.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) tokens: Vec<Token>,
    pub(crate) functions: Vec<Function>,
    /// `a::b::c` for everything that `use` brings in, with groups written out.
    pub(crate) imports: Vec<Token>,
    /// First and last line of each item that is compiled for tests only.
    pub(crate) test_lines: Vec<(usize, usize)>,
    /// Modules in files of their own that are compiled for tests only.
    pub(crate) test_modules: Vec<TestModule>,
}

/// Where a module for tests lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TestModule {
    /// Where its name says.
    Named(String),
    /// In the file that its `#[path]` names, beside its parent.
    Beside(String),
}

impl Scan {
    /// Reads a file.
    ///
    /// # Errors
    /// It is not Rust; the error says why and where.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let described = |error: syn::Error| format!("line {}: {error}", error.span().start().line);
        let file = syn::parse_file(text).map_err(described)?;
        let mut scan = Self::default();
        scan.visit_file(&file);
        let stream: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
        flatten(stream, &mut scan.tokens);
        Ok(scan)
    }

    /// Whether a line is compiled for tests only.
    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.test_lines.iter().any(|(first, last)| (*first..=*last).contains(&line))
    }

    /// The lines where the words of `pattern` follow each other.
    pub(crate) fn lines_with(&self, pattern: &[&str]) -> Vec<usize> {
        let fits =
            |window: &&[Token]| window.iter().map(|token| token.text.as_str()).eq(pattern.iter().copied());
        let windows = self.tokens.windows(pattern.len().max(1)).filter(fits);
        windows.filter_map(|window| window.first().map(|token| token.line)).collect()
    }
}

/// Splits groups into their brackets and what is between; joins `::`, which Rust's tokens keep apart.
fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    for tree in stream {
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                tokens.push(Token { text: open.to_owned(), line: group.span_open().start().line });
                flatten(group.stream(), tokens);
                tokens.push(Token { text: close.to_owned(), line: group.span_close().start().line });
            }
            TokenTree::Punct(punct) => {
                let joins = punct.as_char() == ':' && tokens.last().is_some_and(|token| token.text == ":");
                match tokens.last_mut().filter(|_| joins) {
                    Some(last) => "::".clone_into(&mut last.text),
                    None => tokens
                        .push(Token { text: punct.as_char().to_string(), line: punct.span().start().line }),
                }
            }
            TokenTree::Ident(ident) => {
                tokens.push(Token { text: ident.to_string(), line: ident.span().start().line });
            }
            // What a string or a doc comment says is no code.
            TokenTree::Literal(literal) => {
                tokens.push(Token { text: "\"\"".to_owned(), line: literal.span().start().line });
            }
        }
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let named_test = attribute.path().segments.last().is_some_and(|segment| segment.ident == "test");
        let configured = attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"));
        named_test || configured
    })
}

/// The file in `#[path = "FILE"]`.
#[expect(clippy::wildcard_enum_match_arm, reason = "of the many expressions, only a string names a file")]
fn path_of(attribute: &syn::Attribute) -> Option<String> {
    let pair = attribute.meta.require_name_value().ok().filter(|pair| pair.path.is_ident("path"))?;
    match &pair.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(file), .. }) => Some(file.value()),
        _ => None,
    }
}

impl<'ast> Visit<'ast> for Scan {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "syn adds kinds of items; the rest carries no test code"
    )]
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes: &[syn::Attribute] = match item {
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Enum(item) => &item.attrs,
            syn::Item::Const(item) => &item.attrs,
            syn::Item::Static(item) => &item.attrs,
            syn::Item::Macro(item) => &item.attrs,
            _ => &[],
        };
        if is_for_tests(attributes) {
            self.test_lines.push((item.span().start().line, item.span().end().line));
            if let syn::Item::Mod(module) = item
                && module.content.is_none()
            {
                let beside = attributes.iter().find_map(path_of).map(TestModule::Beside);
                self.test_modules.push(beside.unwrap_or_else(|| TestModule::Named(module.ident.to_string())));
            }
        }
        visit::visit_item(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if is_for_tests(&item.attrs) {
            self.test_lines.push((item.span().start().line, item.span().end().line));
        }
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut paths = BTreeSet::new();
        write_out(&item.tree, String::new(), &mut paths);
        let line = item.span().start().line;
        self.imports.extend(paths.into_iter().map(|text| Token { text, line }));
    }
}

impl Scan {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let line = signature.span().start().line;
        let lines = block.span().end().line + 1 - line;
        self.functions.push(Function { name: signature.ident.to_string(), line, lines });
    }
}

fn write_out(tree: &syn::UseTree, before: String, paths: &mut BTreeSet<String>) {
    let joined =
        |name: &syn::Ident| if before.is_empty() { name.to_string() } else { format!("{before}::{name}") };
    match tree {
        syn::UseTree::Path(path) => write_out(&path.tree, joined(&path.ident), paths),
        syn::UseTree::Name(name) if name.ident == "self" => {
            paths.insert(before);
        }
        syn::UseTree::Name(name) => {
            paths.insert(joined(&name.ident));
        }
        syn::UseTree::Rename(rename) => {
            paths.insert(joined(&rename.ident));
        }
        syn::UseTree::Glob(_) => {
            paths.insert(format!("{before}::*"));
        }
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                write_out(tree, before.clone(), paths);
            }
        }
    }
}

/// The files, or the starts of paths, that hold test code as a whole: those in a package's `tests` folder, and
/// modules that their parent declares for tests only.
pub(crate) fn test_paths(packages: &[String], scans: &[(TextFile, Scan)]) -> Vec<String> {
    let mut paths: Vec<String> = packages.iter().map(|dir| format!("{dir}/tests/")).collect();
    for (file, scan) in scans {
        let base = module_folder(&file.path);
        for module in &scan.test_modules {
            match module {
                TestModule::Named(name) => {
                    paths.extend([format!("{base}/{name}.rs"), format!("{base}/{name}/")]);
                }
                TestModule::Beside(name) => {
                    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                    paths.push(format!("{folder}/{name}"));
                }
            }
        }
    }
    paths
}

/// Where the modules lie that a file declares.
fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name.strip_suffix(".rs").unwrap_or(name) {
        "lib" | "main" | "mod" => folder.to_owned(),
        stem => format!("{folder}/{stem}"),
    }
}

#[test]
fn tokens_functions_and_imports_have_their_lines() {
    let text = "//! x.unwrap()\nuse std::{env, fs::{self, File}};\nfn a() {\n    \"b.unwrap()\";\n}\n";
    let scan = Scan::new(text).unwrap();
    assert!(scan.lines_with(&[".", "unwrap"]).is_empty(), "comments and strings are no code");
    assert_eq!(scan.lines_with(&["fn", "a", "("]), [3]);
    assert_eq!(scan.functions, [Function { name: "a".to_owned(), line: 3, lines: 3 }]);
    let imports: Vec<&str> = scan.imports.iter().map(|import| import.text.as_str()).collect();
    assert_eq!(imports, ["std::env", "std::fs", "std::fs::File"]);
}

#[test]
fn test_code_is_told_apart() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n#[cfg(test)]\nmod aside;\n#[tokio::test]\nasync fn c() {}\n#[cfg(not(test))]\nfn d() {}\n";
    let scan = Scan::new(text).unwrap();
    let lines: Vec<bool> = [1, 4, 7, 9, 11].map(|line| scan.is_test_line(line)).to_vec();
    assert_eq!(lines, [false, true, true, true, false]);
    assert_eq!(scan.test_modules, [TestModule::Named("aside".to_owned())]);
}

#[test]
fn files_of_tests_are_found_through_their_parents() {
    let scan = || Scan::new("#[cfg(test)] mod cases;").unwrap();
    let scans = vec![
        (TextFile::new("a/src/lib.rs", ""), scan()),
        (TextFile::new("a/src/deep.rs", ""), scan()),
        (TextFile::new("a/src/x/mod.rs", ""), scan()),
    ];
    let expected = [
        "a/tests/",
        "a/src/cases.rs",
        "a/src/cases/",
        "a/src/deep/cases.rs",
        "a/src/deep/cases/",
        "a/src/x/cases.rs",
        "a/src/x/cases/",
    ];
    assert_eq!(test_paths(&["a".to_owned()], &scans), expected);
    let scan = Scan::new("#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;").unwrap();
    let scans = vec![(TextFile::new("a/src/b.rs", ""), scan)];
    assert_eq!(test_paths(&[], &scans), ["a/src/b_tests.rs"]);
}
