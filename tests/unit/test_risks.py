"""What the user should be asked about is found in code, and ordinary analysis is left alone."""

import random
import time
import warnings

import pytest

from codeact_magic.risks import Risk, risks

MINE = {"data.csv", "src/a.py", "out/data.csv", "model.pkl", "fig.png", "notes.txt", "a.py"}


def kinds(code: str, language: str = "python") -> str:
    """The kinds in their order, each once."""
    return " ".join(dict.fromkeys(risk.kind for risk in risks(code, language, exists=MINE.__contains__)))


RISKY: list[tuple[str, str]] = [
    # shell
    ("!ls", "shell"),
    ("!!ls", "shell"),
    ("files = !ls *.csv", "shell"),
    ("a, b = !ls", "shell"),
    ("d['x'] = !ls", "shell"),
    ("x = 1\n!rm -rf build\ny = 2", "shell"),
    ("if True:\n    !rm x\n", "shell"),
    ("for f in files:\n    !echo {f}\n", "shell"),
    ("!ls \\\n  -l\nx = 1", "shell"),
    ("!echo it's\nx = 1", "shell"),
    ("%sx ls", "shell"),
    ("x = %sx ls", "shell"),
    ("%system ls", "shell"),
    ("%rm -rf build", "shell"),
    ("rm -rf build", "shell"),
    ("%%bash\nls", "shell"),
    ("%%sh\nls", "shell"),
    ("%%script bash\nls", "shell"),
    ("%%cmd\ndir", "shell"),
    ("%%perl\nprint 1;", "shell"),
    ("%%ruby\nputs 1", "shell"),
    ("%%!\nls", "shell"),
    ("\n\n%%bash\nls", "shell"),
    ("%%time\n%%bash\nls", "shell"),
    ("%time !ls", "shell"),
    ("os.system('ls')", "shell"),
    ("import os\nos.system(command)", "shell"),
    ("import os as o\no.popen('ls').read()", "shell"),
    ("from os import system\nsystem('ls')", "shell"),
    ("from os import system as s\ns('ls')", "shell"),
    ("run = os.system\nrun('ls')", "shell"),
    ("subprocess.run(['ls', '-l'])", "shell"),
    ("from subprocess import run\nrun('ls')", "shell"),
    ("from subprocess import check_output as co\nco(['ls'])", "shell"),
    ("import subprocess as sp\np = sp.Popen('ls')", "shell"),
    ("with Popen('ls') as p:\n    pass", "shell"),
    ("await asyncio.create_subprocess_shell('ls')", "shell"),
    ("import asyncio\nawait asyncio.create_subprocess_exec('ls', '-l')", "shell"),
    ("os.execv('/bin/ls', ['ls'])", "shell"),
    ("os.spawnlp(os.P_WAIT, 'ls', 'ls')", "shell"),
    ("import pty\npty.spawn('bash')", "shell"),
    ("get_ipython().system('ls')", "shell"),
    ("ip = get_ipython()\nip.getoutput('ls')", "shell"),
    ("%time os.system('ls')", "shell"),
    ("%timeit -n 1 -r 1 os.system('ls')", "shell"),
    ("x = %time os.popen('ls')", "shell"),
    ("%%time\nos.system('ls')", "shell"),
    ("%%timeit -n 1 os.system('ls')\npass", "shell"),
    ("%%capture out\n!ls", "shell"),
    ("%%in_kernel python3\n!ls", "shell"),
    ("%%in_kernel bash\nls", "shell"),
    ("%%in_kernel other\n!ls", "unknown"),
    ("%%in_kernel ir\nunlink('x')", "delete"),
    ('%%in_kernel julia-1.10\nrm("x")', "delete"),
    ("%config CodeAct.approval = 'auto'", "settings"),
    ("%env CODEACT_APPROVAL=auto", "settings"),
    ("import os\nos.environ['CODEACT_APPROVAL'] = 'auto'", "settings"),
    ("__import__('os').system('ls')", "shell"),
    ("import importlib\nimportlib.import_module('os').system('ls')", "shell"),
    ("list(map(os.system, commands))", "shell"),
    ("!pip install x && rm -rf build", "install shell"),
    ("!pip install $(cat list)", "shell"),
    ("    os.system('ls')\n    x = 1", "shell"),
    ("import a?\nos.system('ls')  # sure?", "shell"),
    ("!ls file?\nx = 1", "shell"),
    ("%conda run rm -rf x", "shell"),
    ("% nothing\nos.system('ls')", "shell"),
    (",f a\nos.system('ls')", "shell"),
    # install
    ("%pip install pandas", "install"),
    ("%pip install -q pandas\nimport pandas", "install"),
    ("%pip uninstall -y pandas", "install"),
    ("!pip install pandas", "install"),
    ("!pip3 install 'pandas>=2'", "install"),
    ("!pip install -q pandas 2>&1 | tail -1", "install"),
    ("pip install pandas", "install"),
    ("!python -m pip install pandas", "install"),
    ("!{sys.executable} -m pip install pandas", "install"),
    ("%conda install -y pandas", "install"),
    ("%mamba install pandas", "install"),
    ("%uv pip install pandas", "install"),
    ("%uv add pandas", "install"),
    ("!sudo apt-get install -y graphviz", "install"),
    ("!apt-get update && apt-get -y install graphviz", "install"),
    ("!npm install d3", "install"),
    ("subprocess.run([sys.executable, '-m', 'pip', 'install', name])", "install"),
    ("import subprocess, sys\nsubprocess.check_call([sys.executable, '-m', 'pip', 'install', 'x'])", "install"),
    ("os.system(f'pip install {name}')", "install"),
    ("import pip\npip.main(['install', 'x'])", "install"),
    ("from pip._internal import main\nmain(['install', 'x'])", "install"),
    ("%%bash\npip install a\npip install b", "install"),
    ("try:\n    import x\nexcept ImportError:\n    %pip install x\n    import x", "install"),
    # delete
    ("os.remove('data.csv')", "delete"),
    ("os.unlink(path)", "delete"),
    ("os.rmdir('build')", "delete"),
    ("os.removedirs('build')", "delete"),
    ("import os as o\no.remove(f)", "delete"),
    ("from os import remove as r\nr('x')", "delete"),
    ("from os import remove\nfor f in files:\n    remove(f)", "delete"),
    ("shutil.rmtree('build')", "delete"),
    ("from shutil import rmtree\nrmtree('build', ignore_errors=True)", "delete"),
    ("rmtree('build')", "delete"),
    ("Path('x').unlink()", "delete"),
    ("from pathlib import Path\nfor p in Path('.').glob('*.tmp'):\n    p.unlink(missing_ok=True)", "delete"),
    ("[p.unlink() for p in ps]", "delete"),
    ("ps[0].unlink()", "delete"),
    ("(here / 'build').rmdir()", "delete"),
    ("list(map(os.remove, files))", "delete"),
    ("clean = lambda p: os.remove(p)", "delete"),
    ("class A:\n    def f(self):\n        os.remove(self.p)", "delete"),
    ("async def f():\n    os.remove(p)", "delete"),
    ("@decorate(os.remove('x'))\ndef f(): ...", "delete"),
    ("from send2trash import send2trash\nsend2trash('x')", "delete"),
    ("cursor.execute('DROP TABLE users')", "delete"),
    ("cursor.execute('delete from users where id = 1')", "delete"),
    ("conn.execute(text('TRUNCATE TABLE users'))", "delete"),
    ("sql = 'DROP TABLE users'\ncon.execute(sql)", "delete"),
    ("con.execute(f'DROP TABLE {name}')", "delete"),
    ("pd.read_sql('DELETE FROM users', con)", "delete"),
    ("%sql DROP TABLE users", "delete"),
    ("%%sql\nDELETE FROM users", "delete"),
    ("exec(\"import os; os.remove('x')\")", "delete"),
    ("eval('os.remove(1)')", "delete"),
    ("x = f\"{os.remove('a')}\"", "delete"),
    ("match x:\n    case 1:\n        os.remove('a')", "delete"),
    # overwrite
    ("open('data.csv', 'w').write('')", "overwrite"),
    ("with open('data.csv', mode='wb') as f:\n    f.write(b'')", "overwrite"),
    ("open('data.csv', 'r+')", "overwrite"),
    ("name = 'data.csv'\nopen(name, 'w')", "overwrite"),
    ("folder = 'out'\nopen(f'{folder}/data.csv', 'w')", "overwrite"),
    ("open(os.path.join('out', 'data.csv'), 'w')", "overwrite"),
    ("Path('data.csv').write_text('')", "overwrite"),
    ("from pathlib import Path as P\n(P('out') / 'data.csv').write_bytes(b'')", "overwrite"),
    ("p = Path('out')\n(p / 'data.csv').open('w')", "overwrite"),
    ("df.to_csv('data.csv')", "overwrite"),
    ("df.to_csv(path_or_buf='data.csv', index=False)", "overwrite"),
    ("df.groupby('a').sum().to_csv('data.csv')", "overwrite"),
    ("df[df.a > 1].to_pickle('model.pkl')", "overwrite"),
    ("plt.savefig('fig.png', dpi=150)", "overwrite"),
    ("fig.savefig('fig.png')", "overwrite"),
    ("np.savetxt('data.csv', x)", "overwrite"),
    ("np.save('model.pkl', x)", "overwrite"),
    ("import json\njson.dump(x, open('notes.txt', 'w'))", "overwrite"),
    ("shutil.copy('b.csv', 'data.csv')", "overwrite"),
    ("shutil.copy('b/data.csv', 'out')", "overwrite"),
    ("shutil.move('data.csv', 'b.csv')", "overwrite"),
    ("os.rename('b.csv', 'data.csv')", "overwrite"),
    ("os.replace('b.csv', 'data.csv')", "overwrite"),
    ("Path('b.csv').rename('data.csv')", "overwrite"),
    ("%%writefile a.py\nx = 1", "overwrite"),
    ('%%writefile "a.py"\nx = 1', "overwrite"),
    ("torch.save(model, 'model.pkl')", "overwrite"),
    ("joblib.dump(model, 'model.pkl')", "overwrite"),
    ("image.save('fig.png')", "overwrite"),
    # network
    ("requests.post(url, json=x)", "network"),
    ("import requests as rq\nrq.put('http://x', data=x)", "network"),
    ("import httpx\nhttpx.delete('http://x')", "network"),
    ("s = requests.Session()\ns.post(url)", "network"),
    ("with httpx.Client() as c:\n    c.patch(url)", "network"),
    ("async with aiohttp.ClientSession() as s:\n    async with s.post(url) as r: ...", "network"),
    ("session.post(url)", "network"),
    ("requests.request('POST', url)", "network"),
    ("requests.request(method='put', url=url)", "network"),
    ("urllib.request.urlopen(url, data=b'x')", "network"),
    ("import smtplib\nsmtplib.SMTP('host')", "network"),
    ("ftp.storbinary('STOR x', f)", "network"),
    ("paramiko.SSHClient()", "network"),
    ("s = socket.socket()\ns.connect(('host', 80))", "network"),
    ("boto3.client('s3').put_object(Bucket='b')", "network"),
    ("s3.upload_file('a', 'b', 'c')", "network"),
    ("model.push_to_hub('me/model')", "network"),
    ("df.to_csv('s3://bucket/data.csv')", "network"),
    # process
    ("os.kill(1, 9)", "process"),
    ("os.killpg(1, 9)", "process"),
    ("os._exit(0)", "process"),
    ("os.abort()", "process"),
    ("os.fork()", "process"),
    ("psutil.Process(1).kill()", "process"),
    ("for p in psutil.process_iter():\n    p.terminate()", "process"),
    # secrets
    ("open('/home/me/.ssh/id_rsa').read()", "secrets"),
    ("Path.home() / '.ssh' / 'id_ed25519'", "secrets"),
    ("open(os.path.expanduser('~/.aws/credentials'))", "secrets"),
    ("open('.env').read()", "secrets"),
    ("Path('.env').read_text()", "secrets"),
    ("open('server.pem')", "secrets"),
    ("open('/etc/shadow')", "secrets"),
    ("p = '~/.netrc'", "secrets"),
    ("load_dotenv()", "secrets"),
    ("keyring.get_password('a', 'b')", "secrets"),
    ("print(os.environ)", "secrets"),
    ("dict(os.environ)", "secrets"),
    ("os.environ", "secrets"),
    ("for k, v in os.environ.items():\n    print(k, v)", "secrets"),
    ("from os import environ\nprint(dict(environ))", "secrets"),
    ("f'{os.environ}'", "secrets"),
    ("os.environ['OPENAI_API_KEY']", "secrets"),
    ("os.getenv('GITHUB_TOKEN')", "secrets"),
    ("os.environ.get('DB_PASSWORD', '')", "secrets"),
    ("!cat ~/.ssh/id_rsa", "shell secrets"),
    ("!cat .env", "shell secrets"),
    ("subprocess.run(['cat', '/etc/shadow'])", "shell secrets"),
    # unknown
    ("exec(text)", "unknown"),
    ("eval(input())", "unknown"),
    ("exec(base64.b64decode('eA=='))", "unknown"),
    ("exec(compile(text, 'x', 'exec'))", "unknown"),
    ("e = eval\ne(x)", "unknown"),
    ("import builtins\nbuiltins.exec(x)", "unknown"),
    ("get_ipython().run_cell(code)", "unknown"),
    ("%%javascript\nalert(1)", "unknown"),
    ("%%html\n<script>alert(1)</script>", "unknown"),
    # more than one, in the order of the code
    ("os.remove('x')\nos.system('ls')\nexec(x)", "delete shell unknown"),
    ("!ls\nos.remove('x')\n%pip install y", "shell delete install"),
    ("f = lambda: os.kill(1, 9)\nrequests.post(u)", "process network"),
]

HARMLESS = [
    "",
    "   \n\n",
    "# !rm -rf /",
    "# os.remove('x')",
    "import os, sys, shutil, subprocess, socket",
    "import pandas as pd\ndf = pd.read_csv('data.csv')\ndf.head()",
    "df = pd.read_csv('https://example.org/data.csv')",
    "df.drop(columns=['a'])",
    "df.drop(index=[1], inplace=True)",
    "df.drop_duplicates().dropna()",
    "del df['a']",
    "df.query('a > 1 and b < 2')",
    "df.eval('c = a + b')",
    "pd.eval('a + b')",
    "df.to_csv('new.csv')",
    "df.to_csv(path)",
    "df.to_csv()",
    "df.to_csv(f'{name}.csv')",
    "df.to_csv('data.csv', mode='a')",
    "df.to_dict()\ndf.to_numpy()\ndf.to_string()",
    "df.rename(columns={'a': 'b'})",
    "df['a'].str.replace('data.csv', 'x')",
    "df.replace('a', 'b')",
    "'x'.replace('data.csv', 'b')",
    "items.remove('data.csv')",
    "[1, 2].remove(1)",
    "d.pop('x')",
    "s.discard('x')",
    "def remove(x): ...\nremove('data.csv')",
    "def system(x): ...\nsystem('data.csv')",
    "def open(*a): ...\nopen('data.csv', 'w')",
    "remove('x')",
    "run('ls')",
    "system('ls')",
    "plt.savefig('new.png')",
    "plt.plot(x, y)\nplt.title('rm -rf')\nplt.show()",
    "fig, ax = plt.subplots()\nax.scatter(x, y, label=f'{n:.2f}')",
    "%matplotlib inline",
    "%matplotlib inline\nimport matplotlib.pyplot as plt",
    "%config InlineBackend.figure_format = 'retina'",
    "%load_ext autoreload\n%autoreload 2",
    "%cd src",
    "%env",
    "%env HOME",
    "%who\n%whos",
    "%run a.py",
    "%pip list",
    "%pip show pandas",
    "%pip freeze",
    "%conda list",
    "%uv pip list",
    "%time sum(range(10))",
    "%timeit -n 10 f(x)",
    "x = %timeit -o f(x)",
    "%%time\nsum(range(10))",
    "%%capture\nprint(1)",
    "%%writefile new.py\nos.remove('x')",
    "%%writefile -a a.py\nx = 1",
    "%%html\n<b>x</b>",
    "%%markdown\n# x",
    "%%latex\n$x$",
    "%%somebody_elses\nrm -rf /",
    "df?",
    "?df",
    "df.head??",
    "df.head??\nx = df?",
    "%timeit?",
    "x % y",
    "x %= y",
    "'%s' % x",
    "'%d' % (x,)\n",
    "z = (x\n% y)",
    "z = x \\\n% y",
    "a != b",
    "a = b != c",
    "print('!ls')",
    "s = '!ls'",
    "s = '''\n!rm -rf /\n'''",
    "%matplotlib inline\ns = '''\n!rm -rf /\n%pip install x\n'''",
    '%matplotlib inline\ns = """it\'s\n!ls\n"""  # \'\nt = "\'"',
    "%matplotlib inline\nz = (x\n%pip\n)",
    "'os.system'",
    '"""Do not call os.remove; see ~/.ssh/config."""',
    "f'{x!r:>10}'",
    "requests.get(url).json()",
    "session.get(url)",
    "s = requests.Session()\ns.get(url)\ns.headers.update({})",
    "requests.request('GET', url)",
    "httpx.get(url, params={})",
    "urllib.request.urlopen(url).read()",
    "urllib.request.urlretrieve(url, 'new.csv')",
    "cache.put(x)\nqueue.put(1)",
    "d.post(x)",
    "x.delete()",
    "sqlite3.connect('x.db')",
    "cursor.execute('SELECT * FROM users')",
    "cursor.execute('INSERT INTO users VALUES (1)')",
    "pd.read_sql('select 1', con)",
    "%sql SELECT * FROM users",
    "open('data.csv')",
    "open('data.csv', 'rb').read()",
    "open('data.csv', 'a').write('x')",
    "open('data.csv', 'x')",
    "open('new.csv', 'w')",
    "open(path, 'w')",
    "name = 'data.csv'\nname = other\nopen(name, 'w')",
    "def f(name='data.csv'):\n    open(name, 'w')",
    "for name in names:\n    open(name, 'w')",
    "from PIL import Image\nImage.open('fig.png')",
    "image.save('new.png')",
    "Path('data.csv').read_text()",
    "Path('new.csv').write_text('')",
    "Path('data.csv').exists()\nPath('x').mkdir()",
    "Path('a.csv').stem.replace('data.csv', 'b')",
    "shutil.copy('data.csv', 'b.csv')",
    "os.makedirs('x', exist_ok=True)",
    "os.listdir('.')\nos.path.exists('x')\nos.getcwd()",
    "os.environ['HOME']",
    "os.environ.get('CUDA_VISIBLE_DEVICES')",
    "os.environ['OPENAI_API_KEY'] = key",
    "os.environ['MONKEY']",
    "'HOME' in os.environ",
    "env = {**os.environ, 'A': '1'}",
    "getpass.getpass()",
    "model.eval()",
    "re.compile(pattern)",
    "re.compile('a+')",
    "ast.literal_eval(x)",
    "eval('1 + 1')",
    "exec('x = 1')",
    "getattr(df, name)",
    "class M(nn.Module):\n    def eval(self): ...\n    def remove(self): ...",
    "from sklearn.ensemble import RandomForestClassifier\nm = RandomForestClassifier().fit(X, y)\nm.score(X, y)",
    "np.random.seed(0)\nx = np.random.rand(3, 3) @ y",
    "sys.exit(0)",
    "exit()",
    "import multiprocessing as mp\nmp.Pool(4).map(f, x)",
    "with concurrent.futures.ThreadPoolExecutor() as e:\n    e.submit(f)",
    "try:\n    f()\nexcept subprocess.CalledProcessError:\n    pass",
    "subprocess.PIPE",
    "def f(p: subprocess.Popen) -> None: ...",
    "sh = book.sheet(1)\nsh.row(2)",
    "sh.row(2)",
    "thread.kill",
    "text.endswith('.key')",
    "open('keys.csv')",
    "'monkey.environment'",
    "open('.env.example')",
    "await asyncio.sleep(0)",
    "[x async for x in y]",
    "cat = 1",
    "cat + 1",
    "cat -1\ncat",
    "this is no Python\n!rm x",
    "os.remove('x'",
    "x = 1\n%pip install x\nx = = 2",
]


@pytest.mark.parametrize(("code", "expected"), RISKY, ids=[code for code, _ in RISKY])
def test_what_should_be_asked_about_is_found(code: str, expected: str) -> None:
    assert kinds(code) == expected


@pytest.mark.parametrize("code", HARMLESS, ids=HARMLESS)
def test_ordinary_code_is_left_alone(code: str) -> None:
    assert not risks(code, exists=MINE.__contains__)


@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        ("bash", "ls -l", "shell"),
        ("SH", "# first\nls", "shell"),
        ("zsh", "pip install x", "install"),
        ("bash", "pip install x\nrm -rf y", "install shell"),
        ("bash", "", ""),
        ("py", "os.remove('x')", "delete"),
        ("r", "system('ls')", "shell"),
        ("R", "unlink('x')", "delete"),
        ("r", "file.remove('x')", "delete"),
        ("r", "install.packages('x')", "install"),
        ("r", "httr::POST(url)", "network"),
        ("r", "write.csv(df, 'data.csv')", "overwrite"),
        ("r", "write.csv(df, 'new.csv')", ""),
        ("r", "ggsave('fig.png')", "overwrite"),
        ("r", "Sys.getenv('API_KEY')", "secrets"),
        ("r", "eval(parse(text = x))", "unknown"),
        ("r", "df <- read.csv('data.csv')\nsummary(df)\nrm(df)\nsystem.time(f(x))", ""),
        ("r", "# system('ls')", ""),
        ("r", "Sys.getenv('HOME')\nsystem.file('x')", ""),
        ("julia", "run(`ls`)", "shell"),
        ("julia", 'rm("x")', "delete"),
        ("julia", 'using Pkg; Pkg.add("CSV")', "install"),
        ("julia", "HTTP.post(url)", "network"),
        ("julia", 'CSV.write("data.csv", df)', "overwrite"),
        ("julia", 'df = CSV.read("data.csv", DataFrame)\nrun(model)\nplot(x)', ""),
        ("haskell", "main = pure ()", "unknown"),
        ("haskell", "", ""),
        ("perl", "unlink 'x'", "unknown"),
    ],
)
def test_other_languages_have_smaller_tables(language: str, code: str, expected: str) -> None:
    assert kinds(code, language) == expected


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("os.remove('data.csv')", "os.remove('data.csv')"),
        ("import os as o\no.remove(x)", "os.remove(...)"),
        ("os.abort()", "os.abort()"),
        ("!rm -rf build", "!rm -rf build"),
        ("x = !ls", "!ls"),
        ("%%bash\n# clean\nrm -rf build\nls", "%%bash rm -rf build"),
        ("%pip install a", "%pip install a"),
        ("subprocess.run(['rm', '-rf', 'a b'])", "subprocess.run('rm -rf a b')"),
        ("subprocess.run(args)", "subprocess.run(...)"),
        ("Path('a').unlink()", "Path('a').unlink()"),
        ("ps[0].unlink()", ".unlink()"),
        ("df.to_csv('data.csv')", "df.to_csv('data.csv')"),
        ("Path('data.csv').open('w')", "Path('data.csv').open()"),
        ("Path('a').rename('data.csv')", "Path('a').rename('data.csv')"),
        ("cur.execute('''\nDROP TABLE\n  users''')", "cur.execute('DROP TABLE users')"),
        ("exec(x)", "exec of text that is built at run time"),
        ("open('.env')", "the key file '.env'"),
        ("%%writefile a.py\n", "%%writefile a.py"),
    ],
)
def test_a_risk_names_the_call_and_its_constant_argument(code: str, what: str) -> None:
    assert [risk.what for risk in risks(code, exists=MINE.__contains__)] == [what]


def test_a_text_for_the_user_is_one_printable_line() -> None:
    code = "!echo \u202e\x1b[31m" + "x" * 500 + "\nos.remove('a\\nb\\x1b')\nos.remove('" + "y" * 500 + "')"
    found = risks(code)
    assert len(found) == 3
    assert all(risk.what.isprintable() and len(risk.what) <= 120 for risk in found)


def test_each_risk_is_given_once_and_at_most_twenty() -> None:
    assert risks("os.remove('a')\n" * 5) == (Risk("delete", "os.remove('a')"),)
    assert len(risks("\n".join(f"os.remove('{number}')" for number in range(50)))) == 20


def test_without_a_predicate_nothing_counts_as_overwritten() -> None:
    assert not risks("open('data.csv', 'w')")


def test_looking_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kinds("x = '\\d'; os.remove(x)") == "delete"


SIZE = 200_000
HOSTILE = {
    "null bytes": "os.remove('x')\x00",
    "surrogates": "x = '\ud800'\nos.remove('\udfff')\n!ls \ud800",
    "invalid escapes": "x = '\\d\\q'",
    "parentheses": "(" * 10_000 + ")" * 10_000,
    "brackets": "[" * 90 + "]" * 90,
    "minus signs": "-" * 10_000 + "1",
    "a chain": "x" + ".a()" * 20_000,
    "attributes": "x" + ".a" * 40_000,
    "a sum": "'a'" + " + 'a'" * 20_000,
    "statements": "os.remove('x')\n" * (SIZE // 15),
    "different statements": "\n".join(f"a{n}.b(c.d, 'e{n}')" for n in range(SIZE // 25)),
    "doubling": "a0 = 'xx'\n" + "\n".join(f"a{n + 1} = a{n} + a{n}" for n in range(SIZE // 30)),
    "growing names": "a0 = x.y\n" + "\n".join(f"a{n + 1} = a{n}.b" for n in range(SIZE // 30)),
    "a long string": "x = '" + "a" * (SIZE - 10) + "'",
    "a string run again and again": "x = '" + "a + " * 20_000 + "a'\n" + "exec(x)\n" * 10_000,
    "shell lines": "!ls\n" * (SIZE // 4),
    "one shell line": "!" + "pip install " * (SIZE // 13),
    "timed lines": "%time x(\n" * (SIZE // 9),
    "timed again and again": "%time " * (SIZE // 6),
    "cell magics": "%%time\n" * (SIZE // 7),
    "continued": "!ls \\\n" * (SIZE // 6),
    "blanks": "!x\n" + " " * (SIZE - 3),
    "blank lines": "\n" * SIZE,
    "a long string used again and again": "x = '" + "a" * (SIZE // 2) + "'\n" + "os.remove(x)\n" * (SIZE // 26),
    "quotes": "!x\n" + "'" * (SIZE - 3),
    "triple quotes": "!x\n" + "'''\n" * (SIZE // 4 - 1),
    "backslashes": '!x\ny = """' + "\\" * (SIZE - 20),
    "opened brackets": "!x\n" + "[" * (SIZE - 3),
    "equals": "!x\n" + "=" * (SIZE - 3),
    "words": "!" + "sudo " * (SIZE // 5 - 1),
    "assignments": "!" + "a=b " * (SIZE // 4 - 1),
    "slashes": "!" + "/" * (SIZE - 1),
    "separators": "!" + "&" * (SIZE - 1),
    "question marks": "!x\n" + "?" * (SIZE - 3),
    "functions": "".join(" " * n + f"def f{n}():\n" for n in range(90)) + " " * 90 + "os.remove('x')",
    "too long": "x\n" * SIZE,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("language", ["python", "bash", "r", "julia"])
@pytest.mark.parametrize("sample", HOSTILE)
def test_hostile_code_is_looked_through_within_seconds(sample: str, language: str) -> None:
    began = time.perf_counter()
    found = risks(HOSTILE[sample], language, exists=lambda _: True)
    assert time.perf_counter() - began < 10
    assert len(found) <= 20
    assert all(risk.what.isprintable() and len(risk.what) <= 120 for risk in found)


def test_code_that_is_too_deep_or_too_long_is_asked_about() -> None:
    assert kinds(HOSTILE["too long"]) == "unknown"
    assert kinds(HOSTILE["attributes"]) == "unknown"


def test_mutated_code_is_looked_through() -> None:
    chance = random.Random(20)
    samples = [code for code, _ in RISKY] + HARMLESS
    letters = "\n\t\\'\"`!%?#()[]{}=.,:;$&|\x00\x0c\u2028\ud800aé "
    for _ in range(3_000):
        code = chance.choice(["", "%%time\n", "%matplotlib inline\n"]) + chance.choice(samples)
        code = f"{code}\n{chance.choice(samples)}" if chance.random() < 0.5 else code
        for _ in range(chance.randrange(4)):
            place = chance.randrange(len(code) + 1)
            cut = place + chance.randrange(3)
            code = code[:place] + chance.choice(letters) * chance.randrange(3) + code[cut:]
        found = risks(code, chance.choice(["python", "bash", "r", "julia"]), exists=lambda _: chance.random() < 0.5)
        assert len(found) <= 20
        assert all(risk.what.isprintable() and len(risk.what) <= 120 for risk in found)
