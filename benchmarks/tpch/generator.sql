-- Rows that follow from their keys alone: the same at every run, on every server.

CREATE SCHEMA tpch_rows;

-- A number from 0 to n - 1, the same for the same key and column.
CREATE FUNCTION tpch_rows.draw(key bigint, salt bigint, n bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (hashint8extended(key, salt) & 9223372036854775807) % n;

CREATE FUNCTION tpch_rows.pick(words text[], number bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN words[1 + number];

CREATE FUNCTION tpch_rows.word(key bigint, salt bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN tpch_rows.pick(
    '{accounts,asymptotes,carefully,courts,deposits,dependencies,dolphins,escapades,evenly,'
    'final,fluffily,foxes,furiously,ideas,instructions,ironic,packages,patterns,pending,pinto,'
    'platelets,quickly,regular,silent,slyly,somas,theodolites,unusual,wake,waters}',
    tpch_rows.draw(key, salt, 30)
);

CREATE FUNCTION tpch_rows.comment(key bigint, salt bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN tpch_rows.word(key, salt) || ' ' || tpch_rows.word(key, salt + 1) || ' '
    || tpch_rows.word(key, salt + 2);

-- Order keys leave room: eight of each 32 are used at first, the next eight by insertions.
CREATE FUNCTION tpch_rows.orderkey(number bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (number / 8) * 32 + number % 8 + 1;

CREATE FUNCTION tpch_rows.new_orderkey(number bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN tpch_rows.orderkey(number) + 8;

CREATE FUNCTION tpch_rows.cents(partkey bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 90000 + (partkey / 10) % 20001 + 100 * (partkey % 1000);

-- One of a part's four suppliers, `number` from 0 to 3.
CREATE FUNCTION tpch_rows.suppkey(partkey bigint, number bigint, suppliers bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (partkey + number * (suppliers / 4 + (partkey / suppliers) % (suppliers / 12)))
    % suppliers + 1;

CREATE FUNCTION tpch_rows.suppliers(first bigint, last bigint) RETURNS SETOF tpch.supplier
LANGUAGE sql STABLE AS $$
SELECT k::integer, 'Supplier#' || lpad(k::text, 9, '0'), 'street ' || tpch_rows.draw(k, 11, 100000),
    nation::integer,
    (10 + nation) || '-' || (100 + tpch_rows.draw(k, 12, 900)) || '-'
        || (100 + tpch_rows.draw(k, 13, 900)) || '-' || (1000 + tpch_rows.draw(k, 14, 9000)),
    (tpch_rows.draw(k, 15, 1099999) - 99999) / 100.0,
    -- Five in 10,000, and one of the first ten.
    CASE WHEN k = 7 OR tpch_rows.draw(k, 16, 2000) = 0
        THEN 'slyly Customer final Complaints' ELSE tpch_rows.comment(k, 17) END
FROM (SELECT k, tpch_rows.draw(k, 10, 25) AS nation FROM generate_series(first, last) AS k OFFSET 0)
    AS s
$$;

CREATE FUNCTION tpch_rows.colour(key bigint, salt bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN tpch_rows.pick(
    '{almond,antique,aquamarine,azure,beige,bisque,black,blanched,blue,blush,brown,burlywood,'
    'burnished,chartreuse,chiffon,chocolate,coral,cornflower,cornsilk,cream,cyan,dark,deep,dim,'
    'dodger,drab,firebrick,floral,forest,frosted,gainsboro,ghost,goldenrod,green,grey,honeydew,'
    'hot,indian,ivory,khaki,lace,lavender,lawn,lemon,light,lime,linen,magenta,maroon,medium,'
    'metallic,midnight,mint,misty,moccasin,navajo,navy,olive,orange,orchid,pale,papaya,peach,'
    'peru,pink,plum,powder,puff,purple,red,rose,rosy,royal,saddle,salmon,sandy,seashell,sienna,'
    'sky,slate,smoke,snow,spring,steel,tan,thistle,tomato,turquoise,violet,wheat,white,yellow}',
    tpch_rows.draw(key, salt, 92)
);

-- The first sixty are such as the rarest conditions ask for.
CREATE FUNCTION tpch_rows.parts(first bigint, last bigint) RETURNS SETOF tpch.part
LANGUAGE sql STABLE AS $$
SELECT k::integer,
    CASE WHEN k <= 60 AND k % 3 = 0 THEN 'forest' ELSE tpch_rows.colour(k, 20) END
        || ' ' || tpch_rows.colour(k, 21) || ' ' || tpch_rows.colour(k, 22)
        || ' ' || tpch_rows.colour(k, 23) || ' ' || tpch_rows.colour(k, 24),
    'Manufacturer#' || maker,
    'Brand#' || CASE WHEN k <= 60 THEN tpch_rows.pick('{34,12,23}', k % 3)
        ELSE (10 * maker + 1 + tpch_rows.draw(k, 26, 5))::text END,
    CASE WHEN k <= 60 AND k % 4 = 0 THEN 'PROMO PLATED BRASS' ELSE
        tpch_rows.pick('{STANDARD,SMALL,MEDIUM,LARGE,ECONOMY,PROMO}', tpch_rows.draw(k, 27, 6))
        || ' ' || tpch_rows.pick('{ANODIZED,BURNISHED,PLATED,POLISHED,BRUSHED}',
            tpch_rows.draw(k, 28, 5))
        || ' ' || tpch_rows.pick('{TIN,NICKEL,BRASS,STEEL,COPPER}', tpch_rows.draw(k, 29, 5)) END,
    CASE WHEN k > 60 THEN 1 + tpch_rows.draw(k, 30, 50) WHEN k % 4 = 0 THEN 15 ELSE 1 + k % 5 END,
    CASE WHEN k <= 60 THEN tpch_rows.pick('{LG BOX,SM CASE,MED BOX}', k % 3)
        ELSE tpch_rows.pick('{SM,LG,MED,JUMBO,WRAP}', tpch_rows.draw(k, 31, 5)) || ' '
            || tpch_rows.pick('{CASE,BOX,BAG,JAR,PKG,PACK,CAN,DRUM}', tpch_rows.draw(k, 32, 8))
    END,
    tpch_rows.cents(k) / 100.0,
    tpch_rows.word(k, 33)
FROM (SELECT k, 1 + tpch_rows.draw(k, 25, 5) AS maker FROM generate_series(first, last) AS k OFFSET 0)
    AS p
$$;

CREATE FUNCTION tpch_rows.partsupps(first bigint, last bigint, suppliers bigint)
RETURNS SETOF tpch.partsupp
LANGUAGE sql STABLE AS $$
SELECT k::integer, tpch_rows.suppkey(k, n, suppliers)::integer,
    (1 + tpch_rows.draw(4 * k + n, 40, 9999))::integer,
    (100 + tpch_rows.draw(4 * k + n, 41, 99901)) / 100.0,
    tpch_rows.comment(4 * k + n, 42)
FROM generate_series(first, last) AS k, generate_series(0, 3) AS n
$$;

CREATE FUNCTION tpch_rows.customers(first bigint, last bigint) RETURNS SETOF tpch.customer
LANGUAGE sql STABLE AS $$
SELECT k::integer, 'Customer#' || lpad(k::text, 9, '0'), 'street ' || tpch_rows.draw(k, 51, 100000),
    nation::integer,
    (10 + nation) || '-' || (100 + tpch_rows.draw(k, 52, 900)) || '-'
        || (100 + tpch_rows.draw(k, 53, 900)) || '-' || (1000 + tpch_rows.draw(k, 54, 9000)),
    (tpch_rows.draw(k, 55, 1099999) - 99999) / 100.0,
    tpch_rows.pick('{AUTOMOBILE,BUILDING,FURNITURE,HOUSEHOLD,MACHINERY}', tpch_rows.draw(k, 56, 5)),
    tpch_rows.comment(k, 57)
FROM (SELECT k, tpch_rows.draw(k, 50, 25) AS nation FROM generate_series(first, last) AS k OFFSET 0)
    AS c
$$;

CREATE FUNCTION tpch_rows.orderdate(orderkey bigint) RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
-- From 1992-01-01 to 151 days before the end of 1998.
RETURN date '1992-01-01' + tpch_rows.draw(orderkey, 60, 2406)::integer;

-- The first forty orders are large ones.
CREATE FUNCTION tpch_rows.lines(orderkeys bigint[], parts bigint, suppliers bigint)
RETURNS SETOF tpch.lineitem
LANGUAGE sql STABLE AS $$
SELECT o, partkey::integer,
    tpch_rows.suppkey(partkey, tpch_rows.draw(k, 72, 4), suppliers)::integer,
    line::integer, quantity, quantity * tpch_rows.cents(partkey) / 100.0,
    tpch_rows.draw(k, 74, 11) / 100.0, tpch_rows.draw(k, 75, 9) / 100.0,
    CASE WHEN received > date '1995-06-17' THEN 'N'
        WHEN tpch_rows.draw(k, 76, 2) = 0 THEN 'R' ELSE 'A' END,
    CASE WHEN shipped > date '1995-06-17' THEN 'O' ELSE 'F' END,
    shipped, ordered + 30 + tpch_rows.draw(k, 77, 61)::integer, received,
    tpch_rows.pick('{DELIVER IN PERSON,COLLECT COD,NONE,TAKE BACK RETURN}',
        tpch_rows.draw(k, 78, 4)),
    tpch_rows.pick('{REG AIR,AIR,RAIL,SHIP,TRUCK,MAIL,FOB}', tpch_rows.draw(k, 79, 7)),
    tpch_rows.word(k, 80) || ' ' || tpch_rows.word(k, 81)
FROM (
    SELECT *, shipped + 1 + tpch_rows.draw(k, 71, 30)::integer AS received FROM (
        SELECT o, line, 8 * o + line AS k, tpch_rows.orderdate(o) AS ordered,
            tpch_rows.orderdate(o) + 1 + tpch_rows.draw(8 * o + line, 70, 121)::integer AS shipped,
            1 + tpch_rows.draw(8 * o + line, 73, parts) AS partkey,
            CASE WHEN o <= 160 THEN 41 + tpch_rows.draw(8 * o + line, 82, 10)
                ELSE 1 + tpch_rows.draw(8 * o + line, 82, 50) END AS quantity
        FROM unnest(orderkeys) AS o, generate_series(1, 7) AS line
        WHERE o <= 160 OR line <= 1 + tpch_rows.draw(o, 61, 7)
        OFFSET 0
    ) AS drawn OFFSET 0
) AS l
$$;

-- Inserts orders with these keys, and their lines. Foreign keys are looked at when the statement
-- ends, so the lines may come first.
CREATE FUNCTION tpch_rows.insert_orders(orderkeys bigint[], customers bigint, parts bigint,
    suppliers bigint) RETURNS void
LANGUAGE sql AS $$
WITH lines AS MATERIALIZED (
    SELECT * FROM tpch_rows.lines(orderkeys, parts, suppliers)
), inserted AS (
    INSERT INTO tpch.lineitem SELECT * FROM lines
)
INSERT INTO tpch.orders
SELECT o,
    -- Every third customer never orders.
    3 * tpch_rows.draw(o, 62, customers / 3) + 1 + tpch_rows.draw(o, 63, 2),
    CASE open WHEN 0 THEN 'F' WHEN lines THEN 'O' ELSE 'P' END,
    round(total, 2),
    tpch_rows.orderdate(o),
    tpch_rows.pick('{1-URGENT,2-HIGH,3-MEDIUM,4-NOT SPECIFIED,5-LOW}', tpch_rows.draw(o, 64, 5)),
    'Clerk#' || lpad((1 + tpch_rows.draw(o, 65, 1000))::text, 9, '0'),
    0,
    CASE WHEN tpch_rows.draw(o, 66, 100) = 0 THEN 'blithely special pending requests sleep'
        ELSE tpch_rows.comment(o, 67) END
FROM (
    SELECT l_orderkey AS o, count(*) AS lines,
        count(*) FILTER (WHERE l_linestatus = 'O') AS open,
        sum(l_extendedprice * (1 + l_tax) * (1 - l_discount)) AS total
    FROM lines GROUP BY l_orderkey
) AS drawn
$$;
