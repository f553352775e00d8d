-- Brazil's share of what America bought of one type of part, by year.
-- tally: tpch.q08
SELECT
    v.year,
    sum(CASE WHEN v.nation = 'BRAZIL' THEN v.volume ELSE 0 END) / sum(v.volume) AS share
FROM (
    SELECT
        extract(year FROM o.o_orderdate) AS year,
        l.l_extendedprice * (1 - l.l_discount) AS volume,
        ns.n_name AS nation
    FROM tpch.part AS p
    JOIN tpch.lineitem AS l ON l.l_partkey = p.p_partkey
    JOIN tpch.supplier AS s ON s.s_suppkey = l.l_suppkey
    JOIN tpch.orders AS o ON o.o_orderkey = l.l_orderkey
    JOIN tpch.customer AS c ON c.c_custkey = o.o_custkey
    JOIN tpch.nation AS nc ON nc.n_nationkey = c.c_nationkey
    JOIN tpch.region AS r ON r.r_regionkey = nc.n_regionkey
    JOIN tpch.nation AS ns ON ns.n_nationkey = s.s_nationkey
    WHERE r.r_name = 'AMERICA'
        AND o.o_orderdate BETWEEN date '1995-01-01' AND date '1996-12-31'
        AND p.p_type = 'ECONOMY ANODIZED STEEL'
) AS v
GROUP BY v.year
ORDER BY v.year
