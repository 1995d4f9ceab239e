"""Marks as files: JSON, CSV, pages for a class, and what Gradescope and Classroom 50 read."""

import csv
import datetime
import html
import io
import json
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from exercises.grading import Mark, Report, environment
from exercises.manifest import exercises
from exercises.submissions import file_name
from minivit.interop.safetensors import replacing


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as out:
        out.write(text.encode())
    return path


def write_json(reports: list[Report], folder: Path) -> Path:
    """Everything, for other programs: grades.json."""
    held = {
        "schema": "minivit/grades/v1",
        "seed": reports[0].seed,
        "made_with": environment(),
        "students": [asdict(r) | {"earned": r.earned, "points": r.points} for r in reports],
    }
    return _write(folder / "grades.json", json.dumps(held, indent=1) + "\n")


def write_csv(reports: list[Report], folder: Path) -> Path:
    """A row for each student, a column for each exercise: grades.csv."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["student", "earned", "points", *(m.id for m in reports[0].marks), "problems"])
    for r in reports:
        problems = "; ".join(r.problems)
        rows.writerow([_cell(r.student), r.earned, r.points, *(m.earned for m in r.marks), _cell(problems)])
    return _write(folder / "grades.csv", text.getvalue())


def _cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula: names come from strangers."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def write_gradescope(reports: list[Report], folder: Path) -> Path:
    """results.json for each student, as https://gradescope-autograders.readthedocs.io/en/latest/specs/ describes it."""
    for r in reports:
        name = "results.json" if len(reports) == 1 else f"gradescope/{file_name(r.student)}.json"
        path = _write(folder / name, json.dumps(gradescope(r), indent=1) + "\n")
    return path if len(reports) == 1 else path.parent


def gradescope(report: Report) -> dict:
    """One student's results in Gradescope's form."""
    tests = [
        {
            "name": f"{m.id} ({exercises()[m.id].title})" if m.id in exercises() else m.id,
            "score": m.earned, "max_score": m.points, "status": "passed" if m.status == "passed" else "failed",
            "output": m.message, "output_format": "text", "visibility": "visible",
        }
        for m in report.marks
    ]  # fmt: skip
    flags = "; ".join(_flagged(report))
    if flags:  # for the teacher's eyes
        tests.append({"name": "to look at", "score": 0, "max_score": 0, "output": flags, "visibility": "hidden"})
    said = "\n".join(report.problems) or f"{report.earned} of {report.points} points; seed {report.seed}"
    return {
        "score": report.earned, "execution_time": round(report.seconds), "output": said, "stdout_visibility": "hidden",
        "tests": tests,
    }  # fmt: skip


def write_classroom50(reports: list[Report], folder: Path) -> Path:
    """result.json for each student, as https://github.com/foundation50/classroom50/wiki/Advanced-Autograding describes it."""
    for r in reports:
        name = "result.json" if len(reports) == 1 else f"classroom50/{file_name(r.student)}/result.json"
        path = _write(folder / name, json.dumps(classroom50(r), indent=1) + "\n")
    return path if len(reports) == 1 else path.parent.parent


def classroom50(report: Report) -> dict:
    """One student's result in Classroom 50's form; what its runner knows comes from the environment that it sets."""
    known = {
        "classroom": "CLASSROOM", "assignment": "ASSIGNMENT", "submission": "SUBMISSION_TAG", "commit": "COMMIT_URL",
        "release": "RELEASE_URL",
    }  # fmt: skip
    about = {key: os.environ.get(name, "not set") for key, name in known.items()}
    now = datetime.datetime.now(datetime.UTC)
    tests = [
        {"test-name": m.id, "passed": m.status == "passed", "score": m.earned, "max-score": m.points}
        for m in report.marks
    ]
    return {
        "schema": "classroom50/result/v1", **about,
        "review": os.environ.get("REVIEW_URL") or about["commit"],
        "datetime": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "score": report.earned, "max-score": report.points, "tests": tests,
    }  # fmt: skip


# ---- pages -----------------------------------------------------------------------------------------------------------

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; margin: 1rem 0; display: block; overflow-x: auto; }}
th, td {{ text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #8888; vertical-align: top; }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
pre {{ white-space: pre-wrap; margin: 0; font: inherit; }} meter {{ width: 8rem; }}
</style></head><body>
{body}
</body></html>
"""


def write_html(reports: list[Report], folder: Path) -> Path:
    """Pages to open from the file: the class, index.html, and one page for each student."""
    for r in reports:
        _write(folder / "students" / f"{file_name(r.student)}.html", _student_page(r))
    return _write(folder / "index.html", _class_page(reports))


def _class_page(reports: list[Report]) -> str:
    count = len(reports)
    rows = []
    for number, mark in enumerate(reports[0].marks):
        marks = [r.marks[number] for r in reports]
        passed = sum(m.status == "passed" for m in marks)
        begun = sum(m.status not in ("missing", "not written yet") for m in marks)
        usual = Counter(m.mistake for m in marks if m.mistake).most_common(3)
        said = "<br>".join(f"{n} × {_first_line(marks, name)}" for name, n in usual)
        rows.append(
            f'<tr><td>{_esc(mark.id)}</td><td class="n">{mark.points}</td><td class="n">{begun}</td>'
            f'<td class="n">{passed}</td><td><meter value="{passed}" max="{count}">{passed} of {count}</meter></td>'
            f"<td>{said}</td></tr>"
        )
    people = "".join(
        f'<tr><td><a href="students/{_esc(file_name(r.student))}.html">{_esc(r.student)}</a></td>'
        f'<td class="n">{r.earned} of {r.points}</td><td>{_esc("; ".join([*r.problems, *_flagged(r)]))}</td></tr>'
        for r in sorted(reports, key=lambda r: r.student.lower())
    )
    total = sum(r.earned for r in reports) / max(count, 1)
    body = (
        f"<h1>The class</h1><p>{count} submissions, {total:.1f} of {reports[0].points} points on average; "
        f"seed {reports[0].seed}: <code>grade … --seed {reports[0].seed}</code> gives every mark again.</p>"
        '<h2>Exercises</h2><table><thead><tr><th>exercise</th><th class="n">points</th><th class="n">begun</th>'
        '<th class="n">right</th><th>share</th><th>commonest mistakes</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
        '<h2>Students</h2><table><thead><tr><th>student</th><th class="n">points</th><th>to look at</th></tr></thead>'
        f"<tbody>{people}</tbody></table>"
    )
    return _PAGE.format(title="Marks of the class", body=body)


def _first_line(marks: list[Mark], mistake: str) -> str:
    return _esc(next(m.message for m in marks if m.mistake == mistake).splitlines()[0])


def _flagged(report: Report) -> list[str]:
    return [*report.flags, *(f"{m.id}: {', '.join(m.flags)}" for m in report.marks if m.flags)]


def _student_page(report: Report) -> str:
    rows = "".join(
        f'<tr><td>{_esc(m.id)}</td><td class="n">{m.earned} of {m.points}</td><td>{_esc(m.status)}</td>'
        f"<td><pre>{_esc(m.message)}</pre>{_esc('; '.join(m.flags))}</td></tr>"
        for m in report.marks
    )
    problems = "".join(f"<p>{_esc(p)}</p>" for p in report.problems)
    body = (
        f"<h1>{_esc(report.student)}</h1><p>{report.earned} of {report.points} points; seed {report.seed}.</p>{problems}"
        '<table><thead><tr><th>exercise</th><th class="n">points</th><th></th><th>what was found</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )
    return _PAGE.format(title=f"Marks of {_esc(report.student)}", body=body)


def _esc(text: str) -> str:
    return html.escape(text)


FORMS = {
    "json": write_json,
    "csv": write_csv,
    "html": write_html,
    "gradescope": write_gradescope,
    "classroom50": write_classroom50,
}
