"""Hooks of MkDocs for the documentation site: pages from outside docs/, source files, and figures.

The pages read well on GitHub too, so they link to files of the repository by relative paths. The site has a
page for each of those files, and these hooks adapt the links. SVG images become part of their page.
"""

from __future__ import annotations

import html
import posixpath
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

sys.path.insert(0, str(Path(__file__).parent))
from svg import draw_graph

ROOT = Path(__file__).parents[1]
DOCS = "docs/"
INCLUDED = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "src/mdetr/assets/models/clevr-tiny/README.md": "models/clevr-tiny.md",
    "src/mdetr/assets/models/photo-tiny/README.md": "models/photo-tiny.md",
}
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".sh": "bash", ".md": "markdown"}
IMAGES = (".png", ".jpg", ".svg")

BLOCK = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")
MERMAID = re.compile(r"^```mermaid\n(.*?)^```", re.DOTALL | re.MULTILINE)
SVG_IMAGE = re.compile(r'<p>\s*<img alt="([^"]*)" src="([^":]+\.svg)"\s*/?>\s*</p>')


def on_files(files: Files, config: Any) -> Files:
    """Add the included pages, and a page for each file outside docs/ that a page links to."""
    for path, uri in INCLUDED.items():
        files.append(File.generated(config, uri, content=(ROOT / path).read_text(encoding="utf-8")))
    for page in list(files.documentation_pages()):
        for path in _linked_files(page.content_string, _path_of(page.src_uri)):
            uri = site_uri(path)
            if files.get_file_from_path(uri) is not None:
                continue
            if path.endswith(IMAGES):
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
            else:
                content = source_page(path, (ROOT / path).read_text(encoding="utf-8"))
                inclusion = InclusionLevel.NOT_IN_NAV
                files.append(File.generated(config, uri, content=content, inclusion=inclusion))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point links to files of the repository at their pages, and draw Mermaid's graphs."""
    source = page.file.src_uri
    if source.startswith("api/"):
        page.meta["search"] = {"boost": 0.5}  # guides come before the reference
    if not source.startswith("source/"):
        markdown = site_links(markdown, _path_of(source), source)
    return MERMAID.sub(lambda block: _figure(draw_graph(_edges(block[1])), "Graph of the packages"), markdown)


def on_page_content(content: str, page: Any, config: Any, files: Files) -> str:
    """Put SVG images into the page, so that they have its colors."""

    def inline(image: re.Match[str]) -> str:
        folder = posixpath.dirname(page.file.dest_uri)
        uri = posixpath.normpath(posixpath.join(folder, image[2]))
        svg = (ROOT / DOCS / uri).read_text(encoding="utf-8")
        return _figure(svg, html.unescape(image[1]))

    return SVG_IMAGE.sub(inline, content)


def site_links(markdown: str, path: str, uri: str) -> str:
    """Rewrite the links of a file of the repository to those of its page on the site.

    Args:
        markdown: Content of the file.
        path: Path of the file in the repository.
        uri: Path of its page in the site's sources.

    Returns:
        The content. Links to files that do not exist stay; MkDocs reports them.
    """

    def rewrite(link: re.Match[str]) -> str:
        target = _target(link[1], path)
        if not (ROOT / target).is_file():
            return link[0]
        return posixpath.relpath(site_uri(target), posixpath.dirname(uri) or ".") + (link[2] or "")

    # Blocks of code keep their text
    parts, end = [], 0
    for block in BLOCK.finditer(markdown):
        parts += [LINK.sub(rewrite, markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, LINK.sub(rewrite, markdown[end:])])


def site_uri(path: str) -> str:
    """Path of a file of the repository in the site's sources."""
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    if path in INCLUDED:
        return INCLUDED[path]
    return f"source/{path}" if path.endswith(IMAGES) else f"source/{path}.md"


def source_page(path: str, content: str) -> str:
    """Markdown page that shows a file, left out of the search."""
    fence = "`" * (1 + max(map(len, re.findall("`{3,}", content)), default=2))
    language = LANGUAGES.get(Path(path).suffix, "text")
    heading = f"---\nsearch:\n  exclude: true\n---\n\n# {Path(path).name}\n\n`{path}`\n\n"
    return f"{heading}{fence}{language}\n{content.rstrip()}\n{fence}\n"


def _linked_files(markdown: str, path: str) -> Iterable[str]:
    for link, _ in LINK.findall(BLOCK.sub("", markdown)):
        target = _target(link, path)
        if not target.startswith(DOCS) and target not in INCLUDED and (ROOT / target).is_file():
            yield target


def _target(link: str, path: str) -> str:
    """Path in the repository that a relative link of a file leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _path_of(uri: str) -> str:
    """Path in the repository of a page of the site."""
    originals = {page: path for path, page in INCLUDED.items()}
    return originals.get(uri, DOCS + uri)


def _edges(mermaid: str) -> list[tuple[str, str]]:
    return re.findall(r"(\w+) --> (\w+)", mermaid)


def _figure(svg: str, title: str) -> str:
    """A drawing with its description for screen readers; without empty lines, which would end its block."""
    start = re.sub(r"<svg", f'<svg role="img" aria-label="{html.escape(title)}"', svg, count=1)
    lines = [line.strip() for line in start.splitlines() if line.strip() and not line.startswith("<?xml")]
    return f'<div class="figure" tabindex="0">{"".join(lines)}</div>'
