-- The percentage of September 1995's revenue that promoted parts made.
-- tally: tpch.q14
SELECT
    100.00 * sum(
        CASE WHEN p.p_type LIKE 'PROMO%' THEN l.l_extendedprice * (1 - l.l_discount) ELSE 0 END
    ) / sum(l.l_extendedprice * (1 - l.l_discount)) AS promoted_percent
FROM tpch.lineitem AS l
JOIN tpch.part AS p ON p.p_partkey = l.l_partkey
WHERE l.l_shipdate >= date '1995-09-01'
    AND l.l_shipdate < date '1995-09-01' + interval '1 month'
