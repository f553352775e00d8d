"""Expressions over the table of `TABLE`, each with what the compiler makes of it."""

from __future__ import annotations

TABLE = """
CREATE SCHEMA s;
CREATE TYPE s.mood AS ENUM ('sad', 'ok');
CREATE DOMAIN s.pos AS int CHECK (value > 0);
CREATE TABLE s.a (id int PRIMARY KEY, x int, v numeric(10,2), t text);
INSERT INTO s.a SELECT g, mod(g, 5), g, 'k' || mod(g, 3) FROM generate_series(1, 20) g;
CREATE TABLE s.e (
  id int PRIMARY KEY, i int, bi bigint, n numeric, n2 numeric(8, 2), f float8, r real, t text,
  vc varchar(5), ch char(3), oc "char", b bool, d date, ts timestamp, tz timestamptz, ti time,
  iv interval, j json, jb jsonb, ai int[], at text[], u uuid, by bytea, bt bit(3),
  vb bit varying(5), m money, x xml, r4 int4range, mr int4multirange, p point, ine inet,
  md s.mood, ps s.pos, tsv tsvector);
INSERT INTO s.e VALUES (1, 3, 4, 1.50, 2.5, 0.1, 0.5, 'abc', 'ab', 'a', 'x', true, '2024-02-29',
  '2024-03-31 01:30', '2024-03-31 01:30+00', '10:11:12', '1 day 02:03:04.5', '{"a": 1}',
  '{"a": {"b": 2}}', '{1,2,3}', '{a,b}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '\\x0102',
  '101', '1010', 12.5, null, '[1,5)', '{[1,3),[5,8)}', '(1,2)', '10.1.2.3', 'ok', 7, 'a b');
INSERT INTO s.e (id) VALUES (2);
"""

# Printed so that PostgreSQL makes of it what it made of the user's text.
EXACT = r"""
mod(i,2)
i % 2
i ^ 2
f ^ 2
@ i
|/ f
||/ f
~ i
i # 3
i & 3
i | 3
i << 2
i >> 1
- i
- (- i)
ceiling(f)
ceil(n)
floor(n)
round(n, 1)
trunc(n, 1)
round(f)
abs(i)
sign(n)
power(n, 2)
sqrt(f)
exp(f)
ln(n)
log(n)
log(2, n)
log10(n)
div(n, 3)
gcd(i, 4)
lcm(i, 4)
width_bucket(n, 0, 10, 5)
greatest(i, 2, 3)
least(i, bi)
coalesce(i, 0)
nullif(i, 0)
case when i > 1 then 'a' when i is null then 'b' else t end
case i when 1 then 'x' else 'y' end
strpos(t, 'k')
position('k' in t)
substr(t, 1, 2)
substring(t from 2 for 3)
substring(t, 2, 3)
substring(t from '^a.*$')
substring(by from 1 for 2)
overlay(t placing 'z' from 1 for 1)
trim(t)
trim(both 'x' from t)
trim(leading 'x' from t)
btrim(t, 'x')
ltrim(t)
rtrim(t, 'y')
lower(t)
upper(t)
initcap(t)
length(t)
char_length(t)
octet_length(t)
bit_length(t)
reverse(t)
repeat(t, 2)
replace(t, 'a', 'b')
translate(t, 'a', 'b')
left(t, 2)
right(t, 2)
lpad(t, 5)
rpad(t, 5, 'x')
split_part(t, ',', 1)
concat(t, i)
concat_ws(',', t, i)
format('%s-%s', t, i)
t || 'x'
t || i
md5(t)
sha256(by)
encode(by, 'hex')
decode(t, 'hex')
ascii(t)
chr(i)
to_hex(i)
quote_literal(t)
quote_ident(t)
starts_with(t, 'a')
t ^@ 'a'
t like 'a%'
t not like 'a%'
t ilike 'a%'
t not ilike '%a'
t like 'a#%' escape '#'
t like any (array['a','b'])
t similar to 'a|b'
t not similar to 'a|b'
t ~ '^a'
t ~* '^a'
t !~ '^a'
t !~* '^a'
t ~~ 'a'
regexp_replace(t, 'a', 'b')
regexp_replace(t, 'a', 'b', 'g')
regexp_match(t, '^a')
regexp_matches(t, 'a', 'g')
regexp_split_to_array(t, ',')
regexp_like(t, '^A', 'i')
regexp_like(t, '^A')
regexp_count(t, 'a', 1, 'i')
regexp_substr(t, 'a+')
regexp_instr(t, 'a')
b'101'
b'101'::bit(5)
x'1F'
bt & b'110'
bt || b'1'
vb::bit(3)
bt::int
get_bit(bt, 1)
e'a\nb'
U&'\0061'
'it''s'
'back\slash'
$$do$$
'abc'::char
char 'abc'
'abc'::char(2)
'abc'::varchar(2)
'abc'::bpchar
'a'::"char"
oc
oc = 'a'
oc::text
i::"char"
i::text
i::bigint
i::numeric(5,1)
n::int
f::numeric
n::float4
n::double precision
i::bool
t::int
t::date
'2020-01-01'::date
date '2020-01-01'
timestamp '2020-01-01 10:00'
timestamptz '2020-01-01 10:00+02'
time '10:00'
interval '1 day'
interval '1-2' year to month
interval(0) '1.5 second'
interval '1' year
interval '3' hour
iv::interval(0)
iv::interval hour to minute
3 * interval '2 hours'
interval '1' year + 3 * interval '1 month'
ts::timestamp(0)
tz::timestamptz(3)
ti::time(0)
'10:00'::time with time zone
ts + interval '1 day'
ts - ts
d + 1
d - d
d + ti
date_part('week', ts)
date_part('week', d)
extract(week from ts)
extract(epoch from iv)
extract(year from d)
extract(dow from ts)
extract(isodow from ts)
extract(century from ts)
extract(timezone from tz)
date_trunc('day', ts)
date_trunc('day', tz, 'Europe/Berlin')
date_trunc('week', ts)
date_bin('1 hour', ts, '2000-01-01')
date_bin('15 minutes', ts, timestamp '2000-01-01')
tz at time zone 'Europe/Berlin'
ts at time zone 'UTC'
(tz at time zone 'Europe/Berlin')::date
tz at time zone interval '1 hour'
ti at time zone 'UTC'
timezone('UTC', tz)
age(ts, ts)
make_date(2020, i, 1)
make_time(1, 2, 3)
make_timestamp(2020,1,1,1,1,1)
make_interval(days => i)
make_interval(1, 2)
make_timestamptz(2020,1,1,1,1,1,'UTC')
to_char(ts, 'YYYY-MM-DD HH24:MI:SS')
to_char(n, 'FM999.00')
to_date(t, 'YYYY-MM-DD')
to_timestamp(t, 'YYYY-MM-DD')
to_timestamp(f)
to_number(t, '999')
justify_days(iv)
(ts, ts) overlaps (ts, ts)
(ts, iv) overlaps (ts, iv)
isfinite(d)
i between 1 and 3
i not between 1 and 3
i between symmetric 3 and 1
i not between symmetric 3 and 1
i in (1, 2, 3)
i not in (1, 2, 3)
t in ('a', 'b')
i = any (array[1,2])
i = any (ai)
i <> all (ai)
i > all (select 1)
i = some (select 2)
i in (select id from s.a)
i not in (select id from s.a)
(i, t) in (select id, t from s.a)
(i, t) = (1, 'a')
(i, t) < (1, 'a')
row(i, t) is null
row(i, t) is not null
i is null
i is not null
i isnull
b is true
b is not true
b is false
not b
i is distinct from 1
i is not distinct from 1
i <> 1 and not (i = 2 or i = 3)
(i + 1) * 2 - 3 / i
i / 2
n / 3
f / 2
1.0
1.50
1e10
1e-3
100000000000
99999999999999999999
0.1::float8
-1
- 1::bigint
'-1'::int
true
null
null::int
'NaN'::float8
'Infinity'::numeric
array[1,2,3]
array[i, 2]
array[[1,2],[3,4]]
array[]::int[]
'{1,2}'::int[]
ai[1]
ai[1:2]
ai[:2]
ai[2:]
ai || 1
ai || ai
array_append(ai, 1)
array_prepend(1, ai)
array_cat(ai, ai)
array_length(ai, 1)
cardinality(ai)
array_position(ai, 1)
array_remove(ai, 1)
array_remove(ai, null)
array_replace(ai, 1, 2)
array_to_string(at, ',')
string_to_array(t, ',')
ai @> array[1]
ai <@ array[1]
ai && array[1]
ai = array[1]
array(select id from s.a order by id)
unnest(ai)
generate_series(1, i)
generate_series(ts, ts, interval '1 day')
generate_subscripts(ai, 1)
j -> 'a'
j ->> 'a'
j -> 0
j #> '{a,b}'
j #>> '{a,b}'
jb -> 'a' ->> 'b'
jb -> t
jb -> i
jb['a']
jb @> '{"a": 1}'
jb <@ '{"a": 1}'
jb ? 'a'
jb ?| array['a']
jb ?& array['a']
jb @? '$.a'
jb @@ '$.a > 1'
jb - 'a'
jb #- '{a}'
jb || jb
json_extract_path(j, 'a')
json_extract_path_text(j, 'a', 'b')
jsonb_extract_path(jb, 'a')
jsonb_set(jb, '{a}', '1')
jsonb_path_query_first(jb, '$.a')
jsonb_path_exists(jb, '$.a')
jsonb_array_length(jb)
jsonb_typeof(jb)
jsonb_exists(jb, 'a')
jsonb_build_object('a', i)
json_build_array(i, t)
json_object('{a,b}')
to_json(t)
to_jsonb(i)
row_to_json(row(i, t))
jsonb_strip_nulls(jb)
jsonb_pretty(jb)
jsonb_array_elements(jb)
jsonb_object_keys(jb)
jb::text
(jb ->> 'n')::int
j is json
t is json object
t is json with unique keys
json_exists(jb, '$.a')
json_scalar(i)
json(t)
xmlconcat(x, x)
xpath('/a', x)
u::text
'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid
ine << '10.0.0.0/8'
host(ine)
p <-> p
p[0]
point(1,2)
r4 @> 1
r4 && r4
r4 -|- r4
lower(r4)
int4range(1, 5, '[]')
isempty(r4)
mr @> 1
range_merge(r4, r4)
'[1,2)'::int4range
tsv @@ to_tsquery('simple', 'a')
to_tsvector('simple', t)
plainto_tsquery('simple', 'a') && to_tsquery('simple', 'b')
t collate "C"
t collate "C" < 'a'
(t || 'x') collate "C"
md = 'ok'
md::text
t::s.mood
'ok'::s.mood
ps + 1
i::s.pos
m + m
m / 2
m::numeric
by || '\x01'
by = '\xdeadbeef'
num_nulls(i, t)
num_nonnulls(variadic ai)
concat(variadic at)
pg_typeof(i)
cast(i as text)
cast(n as numeric(4,1))
cast('1' as int)
cast(ai as text[])
cast(array[1] as bigint[])
int4(n)
text(i)
float8(i)
"char"(t)
"left"(t, 1)
"position"(t, 'a')
"overlay"(t, 'a', 1)
"substring"(t, 1)
"interval"(ti)
"timestamp"(d)
"time"(ts)
"date"(ts)
int8range(1,2) * int8range(1,3)
(select count(*) from s.a)
(select max(x) from s.a where a.id = e.i)
exists (select 1 from s.a where a.id = e.i)
not exists (select from s.a)
case when exists (select 1 from s.a) then 1 end
0x1F
0b101
0o17
1_000
normalize(t)
current_setting('x', true)
bit_count(bt)
trim_scale(n)
min_scale(n)
scale(n)
factorial(bi)
erf(f)
sind(f)
to_bin(i)
trim_array(ai, 1)
date_add(tz, interval '1 day', 'UTC')
unistr('\0061')
parse_ident(t)
pg_size_pretty(bi)
e.*::text
e.i
(e.*).i
(row(1,2)).f1
(array[1,2])[1]
((ai)[1])
((jb->'a')->'b')
(select array_agg(id) from s.a)[1]
i * -1
i - -1
- (i - 1)
2 ^ - 1
not i = 1
not (b and b)
(not b) is true
(i = 1) is not null
i = 1 or b and not b
(i = 1 or b) and b
i + (2 - 3) - (4 - 5)
i / (2 * 3)
t || (i || t)
(t || i) || t
i::text || t
(i + 1)::text
(i > 1)::int
(-i)::text
(ai || 1)[1]
ai[i + 1]
at[1] || 'x'
t = 'a' collate "C"
b = (i > 1)
b > (t = 'a')
i operator(pg_catalog.+) 1
operator(pg_catalog.-) i
t operator(pg_catalog.~) 'a'
row_number() over (order by id)
rank() over (partition by i order by t desc nulls first)
dense_rank() over (order by id)
ntile(4) over (order by id)
lag(i) over (order by id)
lag(i, 2, 0) over (order by id)
lead(t) over (partition by i order by id)
first_value(i) over (order by id)
last_value(i) over (order by id rows between unbounded preceding and unbounded following)
nth_value(i, 2) over (order by id)
sum(i) over (order by id rows 3 preceding)
sum(i) over (order by id rows between 1 preceding and 1 following exclude current row)
sum(i) over (order by id range between 2 preceding and current row)
sum(i) over (order by id groups between 1 preceding and 1 following exclude ties)
sum(i) over ()
count(*) over (partition by i)
sum(i) filter (where b) over (order by id)
cume_dist() over (order by id)
percent_rank() over (order by id)
vb::bit varying(2)
n::numeric(3,3)
t::varchar(3)[]
ti::time(3) with time zone
tz::timestamp(0) without time zone
i::oid
t::name
t::regclass
t::s.mood[]
jb::jsonb
t::jsonpath
not (t ~ 'a')
not (b is true)
not (i is null)
(not b) is not true
"""

# Likewise, of all rows.
EXACT_AGGREGATES = r"""
rank(3) within group (order by i)
array_agg(i)
count(*)
count(i)
count(distinct i)
count(distinct (i, t))
count(*) filter (where i > 1)
sum(i)
sum(distinct i)
sum(n) filter (where b)
avg(i)
avg(n)
min(t)
max(ts)
bool_and(b)
bool_or(b)
every(b)
bit_and(i)
bit_or(i)
bit_xor(i)
stddev(i)
stddev_pop(n)
stddev_samp(f)
variance(i)
var_pop(n)
var_samp(f)
corr(f, f)
covar_pop(f, f)
regr_slope(f, f)
array_agg(i order by id)
array_agg(distinct i order by i desc)
array_agg(i order by t desc nulls last, id)
array_agg(ai)
string_agg(t, ',' order by id)
string_agg(distinct t, ',')
string_agg(by, '\x00' order by id)
json_agg(i order by id)
jsonb_agg(t order by id) filter (where b)
json_object_agg(t, i order by id)
jsonb_object_agg(t, i)
xmlagg(x order by id)
percentile_cont(0.5) within group (order by i)
percentile_cont(array[0.25, 0.5]) within group (order by f)
percentile_disc(0.5) within group (order by t desc)
mode() within group (order by i)
range_agg(r4)
any_value(i)
"""

# Not parsed, or not printed alike: the gate says so.
OTHERWISE = r"""
+ i
substring(t similar 'a#"b#"c' escape '#')
b is unknown
b is not unknown
json_array(i, t returning json)
json_array(i, null null on null)
json_object('a' : i)
json_object('a' value i absent on null returning jsonb)
json_query(jb, '$.a')
json_query(jb, '$.a' without wrapper keep quotes)
json_query(jb, '$.a' with wrapper)
json_value(jb, '$.a')
json_value(jb, '$.a' returning int default 0 on empty)
json_serialize(jb)
json_arrayagg(i)
json_objectagg(t : i)
xmlexists('/a' passing x)
x is document
normalize(t, NFD)
t is normalized
t is nfc normalized
collation for (t)
ts at local
n::numeric(10,-2)
"""
