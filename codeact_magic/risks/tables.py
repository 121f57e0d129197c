"""What is risky, as data: names of calls, patterns of shell commands, of lines in other languages, and of key files."""

import re
from typing import Literal

Kind = Literal["shell", "install", "delete", "overwrite", "network", "process", "secrets", "settings", "unknown"]

PYTHON = {"", "python", "py", "python3", "ipython", "ipython3"}
SHELLS = {"bash", "sh", "shell", "zsh", "fish", "ksh", "console", "cmd", "bat", "powershell", "pwsh"}
INSTALLERS = {"pip", "conda", "mamba", "micromamba", "uv"}
SHELL_MAGICS = {"sx", "system", "!", "script", "perl", "ruby", "rm", "rmdir", "cp", "mv", "ln", "cat"}
PYTHON_MAGICS = {"time", "timeit", "prun", "memit", "lprun", "mprun", "debug"}
PYTHON_CELLS = PYTHON_MAGICS | {"capture", "python", "python3", "pypy"}
KERNELS = {"ir": "r", "r": "r", "calysto_bash": "bash"}  # names of kernels that do not begin with their language

# Calls by their dotted name, in which "()" stands for a call, and "?" for what has no name; the first match counts.
_CALLS: list[tuple[Kind, str]] = [
    ("shell", r"subprocess\.(run|call|Popen|check_call|check_output|get(status)?output)|p(expect|ty)\.(run|spawn)\w*"),
    ("shell", r"os\.(system|popen|exec[lv]\w*|(posix_)?spawn\w*)|asyncio\.(subprocess\.)?create_subprocess_\w+"),
    ("shell", r"get_ipython\(\)\.(system\w*|getoutput)"),
    ("install", r"pip\.(\w+\.)*main|ensurepip\.bootstrap"),
    ("delete", r"os\.(remove|removedirs)|shutil\.rmtree|.*\.(unlink|rmdir)|(.*\.)?send2trash"),
    ("delete", r".*\.(delete_(one|many|objects?|bucket)|drop_(all|collection|database|table))"),
    ("network", r"((requests|httpx|aiohttp)\.([\w.]+\(\)\.)?|(.*[._])?(session|client)\.)(post|put|patch|delete)"),
    ("network", r"smtplib\.(SMTP|SMTP_SSL|LMTP)|.*\.(storbinary|storlines)|paramiko\.\w+|socket\.socket\(\)\.connect"),
    ("network", r".*\.(put_object|upload_(file|fileobj|folder|blob)|upload_from_\w+|push_to_hub|to_gbq)"),
    ("process", r"os\.(kill|killpg|_exit|abort|fork)|psutil\..*\.(kill|terminate|suspend|send_signal)"),
    ("secrets", r"(dotenv\.)?(load_dotenv|dotenv_values)|keyring\.get_\w+|os\.environb?(\.copy\(\))?\.(items|values)"),
    ("unknown", r"IPython\.display\.Javascript"),
]
_KINDS = [(kind, re.compile(pattern)) for kind, pattern in _CALLS]
OWN_SETTING = re.compile(r"CODEACT_\w+|OPENAI_BASE_URL")
RUNS_TEXT = re.compile(r"exec|eval|compile|get_ipython\(\)\.(run_cell|run_cell_async|ex|ev)")
NAMES_METHOD = re.compile(r"(requests|httpx|aiohttp|urllib3|http\.client)\.([\w.]+\(\)\.)?(request|stream)")
MAY_SEND_DATA = re.compile(r"urllib\.request\.(urlopen|Request)")
SENDS = {"POST", "PUT", "PATCH", "DELETE"}
RUNS_SQL = re.compile(r".*\.(execute\w*|exec_driver_sql|read_sql\w*|sql|query)")
SQL = re.compile(r"(?i)\b(?:DROP\s+(?:TABLE|DATABASE|SCHEMA|VIEW)|DELETE\s+FROM|TRUNCATE\s+TABLE)\b|^\s*TRUNCATE\s+\w")

# Writers by their dotted name, each with the place of the path among its arguments.
WRITERS = [
    (re.compile(r"shutil\.(copy|copy2|copyfile|move)|os\.(rename|renames|replace)|torch\.save|joblib\.dump"), 1),
    (re.compile(r"urllib\.request\.urlretrieve"), 1),
    (re.compile(r"pathlib\.Path\(\)\.(rename|replace)|(pandas|pd)\.ExcelWriter"), 0),
    (re.compile(r".*\.to_?(csv|parquet|excel|json|pickle|feather|hdf|html|latex|markdown|stata|xml|netcdf|file)"), 0),
    (re.compile(r".*\.(write_(csv|parquet|json|html|image)|save(fig|z|txt|mat|z_compressed)?|imwrite)"), 0),
]
MOVES = {"move", "rename", "renames", "replace"}
OPENS = re.compile(r"((io|gzip|bz2|lzma|codecs|tarfile|zipfile|h5py|aiofiles)\.)?(open|ZipFile|File)")
PATHS = {"path", "path_or_buf", "path_or_buffer", "buf", "excel_writer", "fname", "file", "filename", "f", "fp", "dst"}
WRITES = re.compile(r"w|rb?\+")  # modes: appending loses nothing, and "x" does not overwrite
REMOTE = re.compile(r"(s3|gs|gcs|az|abfss?|hdfs|hf|s?ftp|https?)://")

KEY_FILE = re.compile(
    r"(?:^|[/\\])(?:\.(?:ssh|aws|kube|gnupg|netrc|pgpass|pypirc|git-credentials|config/gcloud)"
    r"|id_(?:rsa|dsa|ecdsa|ed25519)[\w-]*|etc/g?shadow|Login Data|logins\.json|key[34]\.db|cookies\.sqlite)(?:$|[/\\*])"
)
MAYBE_KEY_FILE = re.compile(r"(?:^|[/\\])\.env(?:\.(?!example|sample|template)\w+)?$|\w\.(?:pem|key|p12|pfx|kdbx)$")
WORD = re.compile(r"[^\s'\"=;|&<>(){}`@,]+")
READS = re.compile(r"(.*\.)?(open|Path|load\w*|read\w*|from_\w*file|genfromtxt|copy\w*|dotenv_values)")
SECRET = re.compile(r"(?i)(?:^|_|API)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(?:$|_)")
READS_VARIABLE = re.compile(r"os\.(getenv|environ\.(get|pop|setdefault))")
ENVIRONMENT = re.compile(r"os\.environb?(\.copy\(\))*")

INSTALL = re.compile(
    r"\s*(?:(?:sudo|time|env|yes)\s+|-\S+\s+|\w+=\S*\s+)*(?:\S+\s+-m\s+|\S*/)?(?:pip[\d.]*|pipx|uv(?:\s+(?:pip|tool))?"
    r"|conda|mamba|micromamba|poetry|apt|apt-get|dnf|yum|apk|brew|snap|npm|pnpm|yarn|gem|cargo|go)\s+(?:-\S+\s+)*"
    r"(?:install|add|i|ci|uninstall|remove|update|upgrade|sync|create)\b(?!.*(?:`|\$\())"
)
HARMLESS = re.compile(
    r"\s*(?:tail|head|grep|true|cd|echo|set|(?:uv )?pip[\d.]* +\w+|(?:micro)?(?:conda|mamba) +(?:list|info))\b[^>`$]*"
)
BETWEEN = re.compile(r"&&|\|\|?|;|\n|(?<!>)&(?!>)")

# Other languages: what a line holds. A line that writes counts where it names a file that must not be overwritten.
LINES: dict[str, dict[Kind, str]] = {
    "r": {
        "shell": r"(?<![\w.])(?:system2?|shell|pipe|shell\.exec|run)\s*\(",
        "install": r"\b(?:install\.packages|install_\w+|BiocManager::install|pkg_install|renv::\w+)\s*\(",
        "delete": r"(?<![\w.])(?:unlink|file\.remove|file_delete|dir_delete|dbRemoveTable)\s*\(",
        "overwrite": r"\b(?:write\w*|write\.\w+|save\w*|ggsave|sink|fwrite|file\.(?:copy|rename)|png|pdf|cat)\s*\(",
        "network": r"(?<![\w.])(?:POST|PUT|PATCH|DELETE|req_body_\w+|curl_upload|send_mail)\s*\(",
        "secrets": r"\bSys\.getenv\s*\(\s*(?:\)|[\"']\w*(?:KEY|TOKEN|SECRET|PASSWORD))|\bkey_get\s*\(",
        "unknown": r"\beval\s*\(\s*(?:parse|str2lang)\s*\(",
    },
    "julia": {
        "shell": r"\b(?:run|read|readchomp|readlines|success|open|pipeline)\s*\(\s*(?:pipeline\s*\(\s*)?`|^\s*;\s*\w",
        "install": r"\bPkg\.(?:add|develop|rm|update|instantiate)\b|\bpkg\"|^\s*\]\s*\w",
        "delete": r"(?<![\w.!])(?:Base\.|Filesystem\.)*rm\s*\(",
        "overwrite": r"\b(?:write\w*|save\w*|mv|cp|Plots\.\w+)\s*\(|\bopen\s*\(.*[\"'](?:w|r\+)|@save\b",
        "network": r"\bHTTP\.(?:post|put|patch|delete|request\s*\(\s*\"P)",
        "secrets": r"\bENV\b(?!\s*\[)|\bENV\s*\[\s*\"\w*(?:KEY|TOKEN|SECRET|PASSWORD)",
    },
}


def kind_of(name: str) -> Kind | None:
    """Give the kind of a call by its dotted name."""
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(name)), None)
