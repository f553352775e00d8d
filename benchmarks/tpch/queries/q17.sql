-- Yearly revenue lost if orders of less than a fifth of the usual quantity were refused.
-- tally: tpch.q17
SELECT sum(l.l_extendedprice) / 7.0 AS yearly_average
FROM tpch.lineitem AS l
JOIN tpch.part AS p ON p.p_partkey = l.l_partkey
WHERE p.p_brand = 'Brand#23'
    AND p.p_container = 'MED BOX'
    AND l.l_quantity < (
        SELECT 0.2 * avg(other.l_quantity)
        FROM tpch.lineitem AS other
        WHERE other.l_partkey = p.p_partkey
    )
