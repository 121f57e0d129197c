"""One long session, as a user would live it: ten steps with text, a table, a picture, an error, await, and a stop."""

import json
from pathlib import Path
from typing import Any

from codeact_magic.testing import ScriptedServer
from tests.kernels import kernel
from tests.notebooks import block

STEPS = [
    "I load it.\n\n" + block("import pandas as pd\ndf = pd.read_csv('data.csv')\ndf.head()"),
    block("print('rows', len(df))"),
    block("df['price'].astype(float).sum()"),
    "The currency sign must go.\n\n"
    + block("df['price'] = df['price'].str.strip('€').astype(float)\ndf['price'].sum()"),
    block("import asyncio\nawait asyncio.sleep(0.01)\n'awaited'"),
    block("import matplotlib.pyplot as plt\ndf.plot(x='item', y='price', kind='bar');"),
    block("!echo from the shell"),
    block("wc -l data.csv", "bash"),
    block("# filename: total.py\nTOTAL = 6.5"),
    block("from total import TOTAL\nassert TOTAL == df['price'].sum()\nTOTAL"),
    "The total is **6.5**.",
]


def test_ten_steps(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("item,price\ntea,€2.5\ncake,€4.0\n")
    slow = block("import time\nkept = 'kept'\nprint('begun', flush=True)\ntime.sleep(60)")
    with ScriptedServer([*STEPS, slow, "It was kept."]) as server, kernel(tmp_path, server.base_url) as live:
        ran = live.run("%%agent\nWhat is the total of data.csv?")
        assert ran.status == "ok", ran.error
        assert "Answered · 10 steps" in ran.text
        told = [json.dumps(request.body["messages"][-1]["content"], ensure_ascii=False) for request in server.requests]
        for number, expected in enumerate(
            [
                "0   tea  €2.5",
                "rows 2",
                "could not convert",
                "6.5",
                "awaited",
                "data:image/png",
                "from the shell",
                "3 data.csv",
                "Writing total.py",
                "6.5",
            ],
            start=1,
        ):
            assert expected in told[number], (number, told[number][:500])
        record = ran.display("application/vnd.codeact.turn+json")
        assert [event["status"] for event in record["events"] if event["type"] == "CellFinished"] == [
            "ok",
            "ok",
            "error",
            *["ok"] * 7,
        ]
        html = ran.display("text/html")
        for shown in (
            "I load it.",
            "<table",
            "data:image/png;base64,",
            "ValueError",
            "The total is <strong>6.5</strong>",
        ):
            assert shown in html

        sent: list[bool] = []

        def interrupt(message: dict[str, Any]) -> None:
            if not sent and "begun</pre>" in json.dumps(message["content"].get("data", {})):
                sent.append(True)
                live.interrupt()

        stopped = live.run("%%agent\nNow wait.", on=interrupt)
        assert stopped.status == "error"
        assert "Stopped · 1 step" in stopped.text
        more = live.run("%agent continue")
        assert "It was kept." in more.text
        assert live.value("kept, TOTAL") == "('kept', 6.5)"
        messages = server.requests[-1].body["messages"]
        assert messages[: len(server.requests[9].body["messages"])] == server.requests[9].body["messages"]
